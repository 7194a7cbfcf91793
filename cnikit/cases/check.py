"""CHECK: it notices each kind of damage, and nothing where there is none."""

from __future__ import annotations

from functools import partial

from cnikit import kernel
from cnikit.bed import Attachment, Bed
from cnikit.case import Level, NotApplicableError, case, expect

_case = partial(case, "CHECK", since="0.4.0")


def _damaged(bed: Bed, attachment: Attachment, damage: str, namespace: str | None = None) -> None:
    """CHECK is well before the damage, an `ip` command, and an error after; or the plugin's daemon has mended it."""
    bed.check(attachment).succeeded()
    before = _state(attachment)
    kernel.batch(f"{damage}\n", attachment.container.namespace if namespace is None else namespace)
    reply = bed.check(attachment)
    if reply.exit_code == 0:
        expect(_state(attachment) == before, f"CHECK succeeded after: ip {damage}")
        return
    reply.error()


def _state(attachment: Attachment) -> object:
    """What the damages of this chapter change."""
    namespace = attachment.container.namespace
    links = [entry for entry in kernel.ip("link show") if entry["ifname"] in attachment.host_links]
    inside = kernel.ip("link show", namespace)
    return (
        [(entry["ifname"], "UP" in entry["flags"]) for entry in [*links, *inside]],
        kernel.addresses("eth0", namespace),
        sorted(kernel.routes(namespace)),
        sorted(kernel.routes()),
    )


@_case("SPEC 2, CHECK")
def check_right_after_add(bed: Bed) -> None:
    """CHECK right after ADD succeeds and puts out nothing."""
    bed.check(bed.add()).silent()


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_notices_a_missing_address(bed: Bed) -> None:
    """CHECK notices that the container's address was removed."""
    attachment = bed.add()
    _damaged(bed, attachment, f"addr del {attachment.result['ips'][0]['address']} dev eth0")


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_notices_a_missing_route(bed: Bed) -> None:
    """CHECK notices that a route of the Result was removed."""
    attachment = bed.add()
    if not any(entry["dst"] == "0.0.0.0/0" for entry in attachment.result.get("routes", [])):
        raise NotApplicableError("the Result has no default route")
    _damaged(bed, attachment, "route del default")


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_notices_a_missing_interface(bed: Bed) -> None:
    """CHECK notices that the container's interface was deleted."""
    _damaged(bed, bed.add(), "link del eth0")


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_notices_an_interface_that_is_down(bed: Bed) -> None:
    """CHECK notices that the container's interface was set down: the container is unreachable."""
    _damaged(bed, bed.add(), "link set eth0 down")


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_notices_a_host_interface_that_is_down(bed: Bed) -> None:
    """CHECK notices that the host's end was set down: the container is unreachable."""
    attachment = bed.add()
    if not attachment.host_links:
        raise NotApplicableError("the Result tells of no interface on the host")
    _damaged(bed, attachment, f"link set {attachment.host_links[-1]} down", kernel.HOST)


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_notices_another_interface_of_the_name(bed: Bed) -> None:
    """CHECK notices that the container's interface was replaced by another of that name."""
    attachment = bed.add()
    bed.check(attachment).succeeded()
    replace = "link del eth0\nlink add eth0 type veth peer name other\nlink set eth0 up\nlink set other up\n"
    kernel.batch(replace, attachment.container.namespace)
    expect(bed.check(attachment).exit_code != 0, "CHECK succeeded")


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_notices_a_missing_host_route(bed: Bed) -> None:
    """CHECK notices that the host's own route to the container was removed: the container is unreachable."""
    attachment = bed.add()
    own = [route for route in kernel.routes() if route[0].split("/")[0] == attachment.address]
    if not own:
        raise NotApplicableError("the host has no route of its own for the container")
    _damaged(bed, attachment, f"route del {own[0][0]} dev {own[0][2]}", kernel.HOST)


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_notices_a_vanished_namespace(bed: Bed) -> None:
    """CHECK notices that the container's namespace is gone."""
    attachment = bed.add()
    bed.vanish(attachment.container)
    bed.check(attachment).error()


@_case("SPEC 2, CHECK", Level.SHOULD)
def check_of_what_was_deleted(bed: Bed) -> None:
    """CHECK of a container that was deleted is an error."""
    attachment = bed.add()
    bed.delete(attachment)
    bed.check(attachment).error()


@_case("SPEC 2, CHECK")
def check_needs_prev_result(bed: Bed) -> None:
    """CHECK without prevResult is an error: the plugin must consult it."""
    attachment = bed.add()
    bed.check(attachment, prevResult=None).error()


@_case("SPEC 2, CHECK")
def check_allows_a_later_plugins_address(bed: Bed) -> None:
    """CHECK succeeds after a later plugin gave the interface another address, and the Result tells it."""
    attachment = bed.add()
    result = dict(attachment.result)
    index = next(i for i, entry in enumerate(result["interfaces"]) if entry.get("sandbox"))
    version = {"version": "4"} if bed.version == "0.4.0" else {}
    result["ips"] = [*result["ips"], {"address": "203.0.113.7/32", "interface": index} | version]
    kernel.batch("addr add 203.0.113.7/32 dev eth0\n", attachment.container.namespace)
    bed.check(attachment, prevResult=result).succeeded()


@_case("SPEC 2, CHECK")
def check_allows_a_later_plugins_changes(bed: Bed) -> None:
    """CHECK succeeds after a later plugin gave the interface another MTU and added a route that the Result tells."""
    attachment = bed.add()
    route = {"dst": "198.51.100.0/24"}
    result = attachment.result | {"routes": [*attachment.result.get("routes", []), route]}
    change = "link set eth0 mtu 1400\nroute add 198.51.100.0/24 dev eth0\n"
    kernel.batch(change, attachment.container.namespace)
    bed.check(attachment, prevResult=result).succeeded()
