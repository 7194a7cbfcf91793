"""ADD: the interface is there, once, under the name asked for; or nothing is."""

from __future__ import annotations

import os
import signal
import subprocess
from functools import partial

from cnikit import kernel
from cnikit.bed import Bed, nothing_more_than
from cnikit.case import Level, case, expect

_case = partial(case, "ADD")


@_case("SPEC 2, ADD")
def add_makes_the_interface(bed: Bed) -> None:
    """After ADD the container has an interface of the name CNI_IFNAME, and it is up."""
    container = bed.add().container
    found = kernel.link(container.ifname, container.namespace)
    expect(found, f"the container has {sorted(kernel.links(container.namespace))}")
    expect("UP" in (found or {})["flags"], f"it is not up: {found}")


@_case("SPEC 2, ADD")
def add_uses_the_name_asked_for(bed: Bed) -> None:
    """CNI_IFNAME may be any name of up to 15 characters."""
    for name in ("net1", "a-name_15.chars"):
        container = bed.add(bed.container(name)).container
        expect(kernel.link(name, container.namespace), f"the container has {sorted(kernel.links(container.namespace))}")


@_case("SPEC 2, ADD")
def add_twice_is_an_error(bed: Bed) -> None:
    """A second ADD for the same container and interface is refused, and the first one's interface still works."""
    attachment = bed.add()
    bed.call("ADD", attachment.container).error()
    expect(kernel.reaches(attachment.address), "the container's address does not answer any more")


@_case("SPEC 2, ADD")
def add_where_the_name_is_taken(bed: Bed) -> None:
    """ADD is refused where the container has an interface of that name, which stays as it is; nothing else is left."""
    bed.delete(bed.add())
    before = kernel.snapshot()
    container = bed.container()
    kernel.batch("link add eth0 type veth peer name other\naddr add 203.0.113.9/32 dev eth0\n", container.namespace)
    bed.call("ADD", container).error()
    expect(kernel.addresses("eth0", container.namespace) == {"203.0.113.9/32"}, "the interface that was there changed")
    nothing_more_than(before)


@_case("SPEC 2, ADD")
def two_interfaces_in_one_container(bed: Bed) -> None:
    """A container is added to a network twice, under two names of its interface."""
    first = bed.add()
    container = first.container
    second = bed.add(container.again("net1"))
    expect(first.address != second.address, f"both have the address {first.address}")
    have = kernel.links(container.namespace)
    expect({"eth0", "net1"} <= have, f"the container has {sorted(have)}")


@_case("SPEC 2, Parameters")
def namespace_by_any_path(bed: Bed) -> None:
    """CNI_NETNS may be any path to a namespace, such as /proc/PID/ns/net."""
    container = bed.container()
    inside = ["nsenter", f"--net={container.netns}", "sleep", "60"]
    sleeper = subprocess.Popen(inside)
    try:
        path = f"/proc/{sleeper.pid}/ns/net"
        there = os.stat(container.netns).st_ino
        kernel.eventually(lambda: os.stat(path).st_ino == there)
        attachment = bed.add(container, environment={"CNI_NETNS": path})
        expect(kernel.reaches(attachment.address), "the container's address does not answer")
        bed.call("DEL", container, environment={"CNI_NETNS": path}).succeeded()
    finally:
        sleeper.send_signal(signal.SIGKILL)
        sleeper.wait()


@_case("SPEC 5, Success", since="1.0.0")
def add_hands_on_prev_result(bed: Bed) -> None:
    """ADD with a prevResult puts out what is in it, with its own additions."""
    container = bed.container()
    previous = {
        "cniVersion": bed.version,
        "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": container.netns}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    result = bed.add(container, prevResult=previous).result
    names = [entry["name"] for entry in result.get("interfaces", [])]
    expect("lo" in names and "eth0" in names, f"the Result's interfaces are {names}, where lo was there before")
    lo = names.index("lo")
    kept = [entry for entry in result["ips"] if entry["address"] == "127.0.0.1/8" and entry.get("interface") == lo]
    expect(kept, f"the address of lo is lost, or is another interface's: {result['ips']}")
    expect(
        "192.0.2.53" in result.get("dns", {}).get("nameservers", []), f"the name server is lost: {result.get('dns')}"
    )


@_case("SPEC 2, ADD")
def add_to_no_namespace_leaves_nothing(bed: Bed) -> None:
    """ADD with a CNI_NETNS that does not exist, or is no namespace, is refused and leaves nothing on the host."""
    bed.delete(bed.add())
    before = kernel.snapshot()
    for path in ("/run/netns/there-is-none", "/etc/hostname"):
        bed.call("ADD", bed.container(), environment={"CNI_NETNS": path}).error()
    nothing_more_than(before)


@_case("SPEC 3, Lifecycle")
def parallel_adds(bed: Bed) -> None:
    """ADDs for 20 containers at once all succeed, and no address is given twice."""
    replies = bed.together(lambda container: bed.call("ADD", container), bed.containers(20))
    results = [reply.succeeded().object() for reply in replies]
    given = [entry["address"].split("/")[0] for result in results for entry in result["ips"]]
    twice = sorted({address for address in given if given.count(address) > 1})
    expect(not twice, f"given more than once: {twice}")


@_case("SPEC 3, Lifecycle")
def added_again_after_del(bed: Bed) -> None:
    """The same container is added, deleted and added again; it has an address that answers each time."""
    container = bed.container()
    for _ in range(3):
        attachment = bed.add(container)
        expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer")
        bed.delete(attachment)


@_case("SPEC 2, ADD", Level.ROBUST)
def add_needs_no_environment(bed: Bed) -> None:
    """ADD needs no variable of the runtime's own environment, such as HOME or PATH."""
    attachment = bed.add(environment={"PATH": ""})
    expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer")
