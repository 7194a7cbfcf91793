"""The Result of ADD: its schema in each version, and that it is true."""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import Any

from cnikit import kernel
from cnikit.bed import Bed
from cnikit.case import Level, case, expect

_case = partial(case, "Result")
_NEW_IN_1_1 = {"interfaces": {"mtu", "socketPath", "pciID"}, "routes": {"mtu", "advmss", "priority", "table", "scope"}}


def _entries(result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = result.get(key) or []
    expect(isinstance(found, list) and all(isinstance(entry, dict) for entry in found), f"{key} is no list of objects")
    return list(found)


@_case("SPEC 5, Success")
def result_is_in_the_version_asked(bed: Bed) -> None:
    """The Result's cniVersion is the configuration's."""
    found = bed.add().result.get("cniVersion")
    expect(found == bed.version, f"asked in {bed.version}, answered in {found}")


@_case("SPEC 5, Success")
def result_tells_interfaces(bed: Bed) -> None:
    """The container's interface is in the Result, by its name, with CNI_NETNS as `sandbox` and its own MAC address."""
    attachment = bed.add()
    container = attachment.container
    entries = _entries(attachment.result, "interfaces")
    own = [entry for entry in entries if entry.get("name") == "eth0" and entry.get("sandbox")]
    expect(own, f"eth0 is not among them: {entries}")
    expect(own[0]["sandbox"] == container.netns, f"sandbox is {own[0]['sandbox']!r}, not {container.netns!r}")
    real = (kernel.link("eth0", container.namespace) or {}).get("address")
    expect(own[0].get("mac") == real, f"mac is {own[0].get('mac')}, and the kernel says {real}")


@_case("SPEC 5, Success")
def result_tells_host_interfaces(bed: Bed) -> None:
    """Every interface in the Result without `sandbox` is on the host."""
    attachment = bed.add()
    missing = set(attachment.host_links) - kernel.links()
    expect(not missing, f"not there: {sorted(missing)}")


@_case("SPEC 5, Success")
def result_tells_addresses(bed: Bed) -> None:
    """Every address in the Result is on the container's interface, and its `interface` says so."""
    attachment = bed.add()
    entries = _entries(attachment.result, "ips")
    expect(entries, "the Result has no address")
    interfaces = _entries(attachment.result, "interfaces")
    have = kernel.addresses("eth0", attachment.container.namespace)
    for entry in entries:
        expect(entry.get("address") in have, f"{entry.get('address')} is not on eth0, which has {sorted(have)}")
        index = entry.get("interface")
        right = isinstance(index, int) and 0 <= index < len(interfaces) and interfaces[index].get("name") == "eth0"
        expect(right, f"`interface` of {entry['address']} is {index!r}, which is not eth0 in {interfaces}")
        if "gateway" in entry:
            ipaddress.ip_address(entry["gateway"])


@_case("SPEC 5, Success", until="0.4.0")
def result_has_ip_versions(bed: Bed) -> None:
    """Up to 0.4.0 an address's `version` is "4" or "6"."""
    for entry in _entries(bed.add().result, "ips"):
        right = str(ipaddress.ip_interface(entry["address"]).version)
        expect(entry.get("version") == right, f"`version` of {entry['address']} is {entry.get('version')!r}")


@_case("SPEC 5, Success", since="1.0.0")
def result_has_no_ip_versions(bed: Bed) -> None:
    """From 1.0.0 on an address has no `version`."""
    for entry in _entries(bed.add().result, "ips"):
        expect("version" not in entry, f"`version` of {entry['address']} is {entry.get('version')!r}")


@_case("SPEC 5, Success")
def result_tells_routes(bed: Bed) -> None:
    """Every route in the Result is in the container's table."""
    attachment = bed.add()
    have = kernel.routes(attachment.container.namespace)
    for entry in _entries(attachment.result, "routes"):
        wanted = str(ipaddress.ip_network(entry["dst"], strict=False))
        expect(any(route[0] == wanted for route in have), f"no route to {wanted}; there are {have}")


@_case("SPEC 5, Success", until="1.0.0")
def result_has_no_newer_fields(bed: Bed) -> None:
    """A Result in an older version has no field that 1.1.0 introduced."""
    result = bed.add().result
    for key, new in _NEW_IN_1_1.items():
        for entry in _entries(result, key):
            expect(not entry.keys() & new, f"in {key}: {sorted(entry.keys() & new)}")


@_case("SPEC 5, Success", Level.SHOULD, since="1.1.0")
def result_tells_the_mtu(bed: Bed) -> None:
    """The container's interface tells its MTU, and it is the kernel's."""
    attachment = bed.add()
    own = next(entry for entry in attachment.result["interfaces"] if entry.get("sandbox"))
    real = (kernel.link("eth0", attachment.container.namespace) or {}).get("mtu")
    expect(own.get("mtu") == real, f"mtu is {own.get('mtu')}, and the kernel says {real}")


@_case("SPEC 2, Overview")
def stdout_is_json_alone(bed: Bed) -> None:
    """ADD, CHECK and DEL put nothing on stdout but the Result."""
    attachment = bed.add()
    if bed.version != "0.3.1":
        bed.check(attachment).silent()
    bed.delete(attachment).silent()
