"""Accidents: the plugin killed at any moment, its daemon gone, and much at once."""

from __future__ import annotations

from functools import partial

from cnikit import kernel
from cnikit.bed import Bed, Container, nothing_more_than
from cnikit.call import Reply
from cnikit.case import Level, case, expect

_case = partial(case, "accidents", level=Level.ROBUST)
_KILLS = 12


def _moments(longest: float) -> list[float]:
    """Moments spread over a call's duration, in seconds."""
    return [longest * number / (_KILLS - 1) for number in range(_KILLS)]


@_case("SPEC 3, Lifecycle")
def killed_adds_are_undone_by_del(bed: Bed) -> None:
    """A plugin killed at any moment of ADD leaves nothing that a DEL does not take away, addresses included."""
    size = bed.use_scarce()
    whole = bed.call("ADD", first := bed.container()).succeeded().seconds
    bed.call("DEL", first).succeeded()
    before = kernel.snapshot()
    for moment in _moments(whole):
        container = bed.container()
        bed.call("ADD", container, kill_after=moment)
        bed.call("DEL", container).succeeded()
        have = kernel.links(container.namespace)
        expect(have == {"lo"}, f"killed after {moment * 1000:.1f} ms; after DEL the container has {sorted(have)}")
    nothing_more_than(before)
    bed.free_addresses(size)


@_case("SPEC 3, Lifecycle")
def killed_dels_are_done_by_the_next(bed: Bed) -> None:
    """A DEL killed at any moment is completed by the next one, addresses included."""
    size = bed.use_scarce()
    attachment = bed.add()
    whole = bed.delete(attachment).seconds
    before = kernel.snapshot()
    for moment in _moments(whole):
        attachment = bed.add()
        bed.call("DEL", attachment.container, kill_after=moment)
        bed.call("DEL", attachment.container).succeeded()
    nothing_more_than(before)
    bed.free_addresses(size)


@_case("SPEC 3, Lifecycle")
def adds_and_dels_at_once(bed: Bed) -> None:
    """40 containers are added and deleted by 10 at once; every call succeeds and nothing is left."""
    bed.delete(bed.add())
    before = kernel.snapshot()
    given: list[str] = []

    def come_and_go(container: Container) -> Reply:
        reply = bed.call("ADD", container).succeeded()
        given.append(reply.object()["ips"][0]["address"])
        return bed.call("DEL", container).succeeded()

    for _ in range(4):
        bed.together(come_and_go, bed.containers(10))
    expect(len(given) == 40, f"{len(given)} addresses were given")
    nothing_more_than(before)


@_case("SPEC 5, Error")
def add_without_the_daemon(bed: Bed) -> None:
    """While the plugin's daemon is down, ADD is refused with code 11: try again later."""
    bed.stop_daemon()
    bed.call("ADD", bed.container()).error_code(11)


@_case("SPEC 2, DEL")
def del_without_the_daemon(bed: Bed) -> None:
    """While the plugin's daemon is down, DEL is accepted; the daemon does it once it is back."""
    size = bed.use_scarce()
    attachments = bed.add_many(size)
    bed.stop_daemon()
    for attachment in attachments:
        bed.delete(attachment)
    bed.start_daemon()
    kernel.eventually(lambda: bed.call("STATUS").exit_code == 0)
    bed.free_addresses(size)


@_case("SPEC 2, DEL")
def traffic_without_the_daemon(bed: Bed) -> None:
    """While the plugin's daemon is down, containers still reach each other, and they do after it is back."""
    one, two = bed.add_many(2)
    bed.stop_daemon()
    expect(kernel.reaches(two.address, one.container.namespace), f"{two.address} does not answer any more")
    bed.start_daemon()
    expect(kernel.reaches(two.address, one.container.namespace), f"{two.address} does not answer any more")
    if bed.version != "0.3.1":
        bed.check(one).succeeded()
