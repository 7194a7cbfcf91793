"""GC: what a runtime does not list goes, what it lists stays."""

from __future__ import annotations

from functools import partial
from typing import Any

from cnikit import kernel
from cnikit.bed import NETWORK, Attachment, Bed, nothing_more_than
from cnikit.case import Level, case, expect

_case = partial(case, "GC", since="1.1.0")


def _listed(key: str, attachment: Attachment) -> dict[str, Any]:
    """One attachment listed, under that key of the configuration."""
    return {key: [{"containerID": attachment.container.id, "ifname": attachment.container.ifname}]}


@_case("SPEC 2, GC")
def gc_keeps_what_is_valid(bed: Bed) -> None:
    """GC leaves the attachments that are listed as they are, and puts out nothing."""
    kept = bed.add_many(2)
    bed.collect(kept).silent()
    for attachment in kept:
        bed.check(attachment).succeeded()
        expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer any more")


@_case("SPEC 2, GC", Level.SHOULD)
def gc_takes_away_what_is_stale(bed: Bed) -> None:
    """GC takes away what is not listed: its links, routes and rules on the host."""
    bed.delete(bed.add())
    kept = bed.add()
    before = kernel.snapshot()
    bed.add()
    bed.vanish(bed.add().container)
    bed.collect([kept]).succeeded()
    nothing_more_than(before)
    expect(kernel.reaches(kept.address), f"{kept.address}, which was listed, does not answer any more")


@_case("SPEC 2, GC", Level.SHOULD)
def gc_frees_addresses(bed: Bed) -> None:
    """GC frees the addresses of what is not listed."""
    size = bed.use_scarce()
    kept, *stale = bed.add_many(size)
    for attachment in stale:
        bed.vanish(attachment.container)
    bed.collect([kept]).succeeded()
    bed.free_addresses(size - 1)


@_case("SPEC 2, GC", Level.SHOULD)
def gc_of_everything(bed: Bed) -> None:
    """GC with an empty list takes all of the network's attachments away."""
    bed.delete(bed.add())
    before = kernel.snapshot()
    bed.add_many(3)
    bed.collect([]).succeeded()
    nothing_more_than(before)


@_case("SPEC 2, GC")
def gc_tells_interfaces_apart(bed: Bed) -> None:
    """An attachment is a container ID and an interface name: GC keeps one of a container's two and takes the other."""
    first = bed.add()
    container = first.container
    bed.add_beside(first)
    bed.collect([first]).succeeded()
    bed.check(first).succeeded()
    gone = kernel.eventually(lambda: kernel.links(container.namespace) == {"lo", "eth0"})
    expect(gone, f"the container has {sorted(kernel.links(container.namespace))}")


@_case("SPEC 2, GC")
def gc_is_of_one_network(bed: Bed) -> None:
    """GC of one network leaves another network's attachments, though they are not listed."""
    other = bed.add(name="another")
    bed.collect([], name=NETWORK).succeeded()
    bed.check(other, name="another").succeeded()
    expect(kernel.reaches(other.address), f"{other.address} does not answer any more")


@_case("SPEC 2, GC")
def gc_twice(bed: Bed) -> None:
    """GC succeeds when there is nothing to take away."""
    kept = bed.add()
    for _ in range(2):
        bed.collect([kept]).succeeded()
    bed.check(kept).succeeded()


@_case("SPEC 2, GC")
def gc_needs_no_container(bed: Bed) -> None:
    """GC needs no variable but CNI_COMMAND and CNI_PATH, and the list as `cni.dev/valid-attachments` alone will do."""
    kept = bed.add()
    bed.call("GC", **_listed("cni.dev/valid-attachments", kept)).succeeded()
    bed.check(kept).succeeded()


@_case("libcni, GCNetworkList", Level.ROBUST)
def gc_by_the_misnamed_key(bed: Bed) -> None:
    """The list under `cni.dev/attachments` alone, as an early libcni named it, keeps what it lists."""
    kept = bed.add()
    bed.call("GC", **_listed("cni.dev/attachments", kept))
    bed.check(kept).succeeded()
    expect(kernel.reaches(kept.address), f"{kept.address} does not answer any more")


@_case("SPEC 3, Deriving request configuration", Level.ROBUST)
def gc_without_a_list(bed: Bed) -> None:
    """GC without any list, which no runtime sends on purpose, takes nothing away."""
    kept = bed.add()
    bed.call("GC")
    bed.check(kept).succeeded()
    expect(kernel.reaches(kept.address), f"{kept.address} does not answer any more")


@_case("SPEC 2, GC", Level.SHOULD)
def gc_goes_on_after_an_error(bed: Bed) -> None:
    """GC takes away the rest where one stale attachment cannot be: here its namespace's path is a plain file."""
    bed.delete(bed.add())
    before = kernel.snapshot()
    broken, *_ = bed.add_many(3)
    bed.vanish(broken.container)
    kernel.run("sh", "-c", f"echo not a namespace > {broken.container.netns}")
    bed.collect([])
    nothing_more_than(before)
