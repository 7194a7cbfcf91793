"""DEL: what ADD made is gone, whatever is left of the container; and a DEL too many does no harm."""

from __future__ import annotations

from functools import partial

from cnikit import kernel
from cnikit.bed import Bed, nothing_more_than
from cnikit.case import Level, case, expect

_case = partial(case, "DEL")


@_case("SPEC 2, DEL")
def del_takes_the_interface_away(bed: Bed) -> None:
    """After DEL the interface is gone, in the container and on the host."""
    attachment = bed.add()
    before = kernel.links()
    bed.delete(attachment)
    have = kernel.links(attachment.container.namespace)
    expect(have == {"lo"}, f"the container still has {sorted(have)}")
    own = {name for name in attachment.host_links if (name in before) and not _shared(bed, name)}
    gone = kernel.eventually(lambda: not own & kernel.links())
    expect(gone, f"still on the host: {sorted(own & kernel.links())}")


def _shared(bed: Bed, name: str) -> bool:
    """Whether a host link is the whole network's, such as a bridge: another container's Result tells it too."""
    other = bed.add()
    shared = name in other.host_links
    bed.delete(other)
    return shared


@_case("SPEC 2, DEL")
def del_twice(bed: Bed) -> None:
    """DEL succeeds however often it is repeated."""
    attachment = bed.add()
    for _ in range(3):
        bed.delete(attachment)


@_case("SPEC 2, DEL")
def del_of_what_never_was(bed: Bed) -> None:
    """DEL of a container that was never added succeeds."""
    bed.call("DEL", bed.container()).succeeded()


@_case("SPEC 2, DEL")
def del_without_netns(bed: Bed) -> None:
    """DEL without CNI_NETNS succeeds, and with an empty one."""
    one, two = bed.add_many(2)
    bed.delete(one, without=["CNI_NETNS"])
    bed.delete(two, environment={"CNI_NETNS": ""})


@_case("SPEC 2, DEL")
def del_without_prev_result(bed: Bed) -> None:
    """DEL without prevResult succeeds, and the interface is gone."""
    attachment = bed.add()
    bed.call("DEL", attachment.container).succeeded()
    have = kernel.links(attachment.container.namespace)
    expect(have == {"lo"}, f"the container still has {sorted(have)}")


@_case("SPEC 2, DEL", Level.SHOULD)
def del_after_the_namespace_vanished(bed: Bed) -> None:
    """DEL succeeds after the container's namespace is gone, and nothing of it is left on the host."""
    bed.delete(bed.add())
    before = kernel.snapshot()
    attachment = bed.add()
    bed.vanish(attachment.container)
    bed.delete(attachment)
    nothing_more_than(before)


@_case("SPEC 2, DEL", Level.SHOULD)
def del_after_the_interface_vanished(bed: Bed) -> None:
    """DEL succeeds after somebody deleted the interface, and nothing of it is left on the host."""
    bed.delete(bed.add())
    before = kernel.snapshot()
    attachment = bed.add()
    kernel.batch("link del eth0\n", attachment.container.namespace)
    bed.delete(attachment)
    nothing_more_than(before)


@_case("SPEC 2, DEL", Level.ROBUST)
def del_leaves_foreign_interfaces(bed: Bed) -> None:
    """DEL of a container that was never added leaves alone an interface of that name that somebody else made."""
    container = bed.container()
    kernel.batch("link add eth0 type veth peer name other\n", container.namespace)
    bed.call("DEL", container).succeeded()
    expect(kernel.link("eth0", container.namespace), "the interface is gone")


@_case("SPEC 2, DEL", Level.ROBUST)
def del_by_a_path_that_is_another_containers(bed: Bed) -> None:
    """DEL with a CNI_NETNS that by now is another container's leaves that container connected."""
    old, new = bed.add_many(2)
    bed.vanish(old.container)
    bed.delete(old, environment={"CNI_NETNS": new.container.netns})
    expect(kernel.link("eth0", new.container.namespace), "the other container's interface is gone")
    expect(kernel.reaches(new.address), f"{new.address} does not answer any more")


@_case("SPEC 2, DEL")
def del_of_one_of_two_interfaces(bed: Bed) -> None:
    """DEL of one of a container's two interfaces leaves the other, with its address."""
    first = bed.add()
    container = first.container
    second = bed.add_beside(first)
    bed.delete(second)
    expect(kernel.links(container.namespace) == {"lo", "eth0"}, f"it has {sorted(kernel.links(container.namespace))}")
    have = kernel.addresses("eth0", container.namespace)
    expect(any(one.startswith(f"{first.address}/") for one in have), f"eth0 has {sorted(have)}")


@_case("SPEC 3, Lifecycle")
def parallel_dels(bed: Bed) -> None:
    """DELs for 20 containers at once all succeed, and nothing is left on the host."""
    bed.delete(bed.add())
    before = kernel.snapshot()
    containers = [attachment.container for attachment in bed.add_many(20)]
    for reply in bed.together(lambda container: bed.call("DEL", container), containers):
        reply.succeeded()
    nothing_more_than(before)


@_case("SPEC 2, DEL")
def nothing_is_left(bed: Bed) -> None:
    """After as many DELs as ADDs the host has no link, address, route, rule or shaper more than after the first."""
    bed.delete(bed.add())
    kernel.eventually(lambda: False, 0.1)
    before = kernel.snapshot()
    for attachment in bed.add_many(5):
        bed.delete(attachment)
    nothing_more_than(before)
