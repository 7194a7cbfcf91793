"""Packets: from the host, between containers, to the outside, through ADDs and DELs of others."""

from __future__ import annotations

from functools import partial

from cnikit import kernel
from cnikit.bed import HOST_ADDRESS, OUTSIDE, OUTSIDE_ADDRESS, Bed
from cnikit.case import Level, case, expect

_case = partial(case, "traffic")
_MEGABYTE = 1 << 20


@_case("SPEC 2, ADD")
def host_and_container(bed: Bed) -> None:
    """The host reaches the container, and the container the host."""
    attachment = bed.add()
    expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer the host")
    expect(kernel.reaches(HOST_ADDRESS, attachment.container.namespace), "the host does not answer the container")


@_case("SPEC 2, ADD")
def container_and_container(bed: Bed) -> None:
    """Two containers reach each other."""
    one, two = bed.add_many(2)
    expect(kernel.reaches(two.address, one.container.namespace), f"{two.address} does not answer {one.address}")
    expect(kernel.reaches(one.address, two.container.namespace), f"{one.address} does not answer {two.address}")


@_case("SPEC 2, ADD")
def many_bytes_between_containers(bed: Bed) -> None:
    """A megabyte arrives by TCP between two containers: large packets, checksums and offloads are right."""
    one, two = bed.add_many(2)
    arrived = kernel.transfer(_MEGABYTE, two.address, two.container.namespace, one.container.namespace)
    expect(arrived == _MEGABYTE, f"{arrived} of {_MEGABYTE} bytes arrived")


@_case("SPEC 2, ADD", Level.SHOULD)
def container_and_outside(bed: Bed) -> None:
    """A container and a machine beyond the host, which routes back by way of the host, reach each other."""
    attachment = bed.add()
    namespace = attachment.container.namespace
    expect(kernel.reaches(OUTSIDE_ADDRESS, namespace), "the outside does not answer the container")
    arrived = kernel.transfer(_MEGABYTE, attachment.address, namespace, OUTSIDE)
    expect(arrived == _MEGABYTE, f"from outside, {arrived} of {_MEGABYTE} bytes arrived")


@_case("SPEC 2, ADD", Level.ROBUST)
def reachable_when_add_returns(bed: Bed) -> None:
    """The container can be reached at once when ADD returns: the first packet is answered."""
    for _ in range(5):
        attachment = bed.add()
        expect(kernel.reaches(attachment.address, seconds=0), f"{attachment.address} did not answer the first packet")


@_case("SPEC 2, DEL")
def unreachable_after_del(bed: Bed) -> None:
    """A deleted container's address does not answer any more."""
    attachment = bed.add()
    expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer")
    bed.delete(attachment)
    expect(not kernel.reaches(attachment.address, seconds=0), f"{attachment.address} still answers")


@_case("SPEC 2, DEL")
def others_are_unharmed(bed: Bed) -> None:
    """Containers reach each other while others are added and deleted."""
    one, two = bed.add_many(2)
    for _ in range(3):
        bed.delete(bed.add())
        expect(kernel.reaches(two.address, one.container.namespace), f"{two.address} does not answer any more")


@_case("SPEC 2, ADD")
def both_ip_versions(bed: Bed) -> None:
    """With IPv4 and IPv6 the container has both, both answer the host, and containers reach each other by both."""
    bed.use_dual()
    one, two = bed.add_many(2)
    kinds = sorted("6" if ":" in address else "4" for address in one.addresses)
    expect(kinds == ["4", "6"], f"the container has {one.addresses}")
    for address in two.addresses:
        expect(kernel.reaches(address), f"{address} does not answer the host")
        expect(kernel.reaches(address, one.container.namespace), f"{address} does not answer {one.addresses}")


@_case("SPEC 2, ADD", Level.ROBUST)
def ipv6_when_add_returns(bed: Bed) -> None:
    """The IPv6 address is usable at once when ADD returns: it is not tentative."""
    bed.use_dual()
    attachment = bed.add()
    namespace = attachment.container.namespace
    every = [a for entry in kernel.ip("-6 addr show", namespace) for a in entry["addr_info"]]
    tentative = [a["local"] for a in every if a.get("tentative") and a["local"] in attachment.addresses]
    expect(not tentative, f"still tentative: {tentative}")
