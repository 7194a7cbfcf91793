"""Addresses that run out: refused cleanly, given back, never lost, never given twice."""

from __future__ import annotations

from functools import partial

from cnikit import kernel
from cnikit.bed import Bed, nothing_more_than
from cnikit.case import Level, case, expect

_case = partial(case, "scarcity")


@_case("SPEC 2, ADD")
def exhausted(bed: Bed) -> None:
    """When no address is left, ADD is refused with an error object, and after the DEL that follows nothing is left."""
    bed.add_many(bed.use_scarce())
    before = kernel.snapshot()
    container = bed.container()
    bed.call("ADD", container).error()
    bed.call("DEL", container).succeeded()
    expect(kernel.links(container.namespace) == {"lo"}, f"it has {sorted(kernel.links(container.namespace))}")
    nothing_more_than(before)


@_case("SPEC 2, ADD", Level.ROBUST)
def refused_whole(bed: Bed) -> None:
    """An ADD that is refused for want of an address leaves nothing, even before the DEL that a runtime owes it."""
    bed.add_many(bed.use_scarce())
    before = kernel.snapshot()
    container = bed.container()
    bed.call("ADD", container).error()
    expect(kernel.links(container.namespace) == {"lo"}, f"it has {sorted(kernel.links(container.namespace))}")
    nothing_more_than(before)


@_case("SPEC 2, DEL")
def addresses_come_back(bed: Bed) -> None:
    """Every DEL gives its address back: as many containers can be added again, three times over."""
    size = bed.use_scarce()
    for _ in range(3):
        bed.free_addresses(size)


@_case("SPEC 2, DEL")
def addresses_come_back_without_netns(bed: Bed) -> None:
    """DEL without CNI_NETNS gives the address back, and so does one after the namespace vanished."""
    size = bed.use_scarce()
    attachments = bed.add_many(size)
    for number, attachment in enumerate(attachments):
        bed.vanish(attachment.container)
        bed.delete(attachment, without=["CNI_NETNS"] if number % 2 else [])
    bed.free_addresses(size)


@_case("SPEC 2, ADD")
def failed_adds_take_no_address(bed: Bed) -> None:
    """ADDs that fail, for a bad namespace or an interface name that is taken, take no address, once DEL followed."""
    size = bed.use_scarce()
    for number in range(size + 2):
        container = bed.container()
        if number % 2:
            kernel.batch("link add eth0 type veth peer name other\n", container.namespace)
            bed.call("ADD", container).error()
        else:
            bed.call("ADD", container, environment={"CNI_NETNS": "/run/netns/there-is-none"}).error()
        bed.call("DEL", container).succeeded()
    bed.free_addresses(size)


@_case("SPEC 3, Lifecycle")
def more_at_once_than_there_are(bed: Bed) -> None:
    """Of more ADDs at once than there are addresses exactly as many succeed, with an address each."""
    size = bed.use_scarce()
    replies = bed.together(lambda container: bed.call("ADD", container), bed.containers(2 * size))
    given = [reply.object()["ips"][0]["address"] for reply in replies if reply.exit_code == 0]
    expect(len(set(given)) == len(given), f"given twice: {sorted(given)}")
    expect(len(given) == size, f"{len(given)} ADDs succeeded, with {size} addresses")


@_case("SPEC 2, DEL", Level.ROBUST)
def addresses_are_not_reused_at_once(bed: Bed) -> None:
    """An address that came free is not the next one given, while others are free: late packets find nobody."""
    bed.use_scarce()
    first = bed.add()
    bed.delete(first)
    second = bed.add()
    expect(first.address != second.address, f"{first.address} was given again at once")
