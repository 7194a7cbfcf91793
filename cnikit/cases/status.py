"""STATUS: whether an ADD would work."""

from __future__ import annotations

from functools import partial

from cnikit.bed import Bed
from cnikit.case import Level, case, expect

_case = partial(case, "STATUS", since="1.1.0")


@_case("SPEC 2, STATUS")
def status_when_ready(bed: Bed) -> None:
    """STATUS succeeds where ADD would, puts out nothing, and needs no variable but CNI_COMMAND."""
    bed.call("STATUS", without=[] if bed.profile.delegates else ["CNI_PATH"]).silent()


@_case("SPEC 2, STATUS")
def status_when_exhausted(bed: Bed) -> None:
    """STATUS fails with code 50 or 51 while no address is left, and succeeds again after a DEL."""
    attachments = bed.add_many(bed.use_scarce())
    bed.call("STATUS").error_code(50, 51)
    bed.delete(attachments[0])
    bed.call("STATUS").succeeded()


@_case("SPEC 2, STATUS")
def status_without_the_daemon(bed: Bed) -> None:
    """STATUS fails with code 50 or 51 while the plugin's daemon is down, and succeeds once it is back."""
    bed.stop_daemon()
    bed.call("STATUS").error_code(50, 51)
    bed.start_daemon()
    bed.call("STATUS").succeeded()


@_case("SPEC 2, STATUS")
def status_of_a_configuration_that_is_none(bed: Bed) -> None:
    """STATUS with a configuration that is no JSON is an error."""
    bed.call("STATUS", stdin=b"not json").error()


@_case("containerd, CNI status", Level.ROBUST)
def status_is_cheap(bed: Bed) -> None:
    """STATUS, which containerd asks for every few seconds, takes less than 200 ms with ten containers there."""
    bed.add_many(10)
    fastest = min(bed.call("STATUS").succeeded().seconds for _ in range(5))
    expect(fastest < 0.2, f"the fastest of 5 took {fastest * 1000:.0f} ms")
