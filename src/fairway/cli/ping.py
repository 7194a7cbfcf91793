"""fairway ping: who reaches whom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from fairway.cli import names
from fairway.cli.matrix import Member, Outcome, Result, one_of_each_version, print_document, print_text, ways
from fairway.cli.output import Progress, json_option, milliseconds, plural, print_json
from fairway.cli.places import Place, enter_labs, find_place
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPAddress
from fairway.net.model.pod import parse_address

if TYPE_CHECKING:
    from fairway import lab
    from fairway.net.host.ping import Answer

_FEW = 1 << 9  # ways that are asked for twice
_CHUNK = 1 << 15  # ways that are asked for at once


@click.command(
    epilog="\b\nExamples:\n  fairway ping\n  fairway ping --lab two-hosts --json\n  fairway ping demo01 demo03"
)
@click.argument("source", metavar="[A", required=False, shell_complete=names.complete_places)
@click.argument("target", metavar="B]", required=False, shell_complete=names.complete_places)
@click.option("--lab", "lab_name", metavar="NAME", help="Of several labs, the one.", shell_complete=names.complete_labs)
@click.option("--count", type=click.IntRange(1), default=3, show_default=True, help="Echoes from A to B.")
@click.option("--interval", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Seconds between them.")
@json_option
@click.pass_context
def ping(
    ctx: click.Context,
    source: str | None,
    target: str | None,
    lab_name: str | None,
    count: int,
    interval: float,
    as_json: bool,
) -> None:
    """Whether all of a lab's nodes and pods reach each other; or, a few times, whether A reaches B.

    A and B are pods or nodes, A may be `host` (this one) and B an address. Exit code 1 if somebody is not reached.
    """
    enter_labs()
    if source is None:
        reached = _all_pairs(lab_name, as_json)
    elif target is None:
        raise UsageError("ping needs both A and B, or neither", mend=f"say whom {source} is to reach")
    else:
        prefix = f"{lab_name}/" if lab_name else ""
        reached = _one_pair(f"{prefix}{source}", target, prefix, count, interval, as_json)
    if not reached:
        ctx.exit(1)


def _all_pairs(lab_name: str | None, as_json: bool) -> bool:
    from fairway import lab

    running = lab.find(lab_name)
    result = Result(running.name, _members(running))
    with Progress("ping") as progress:
        result.outcomes = list(_outcomes(result.members, progress))
    if as_json:
        print_document(result)
    else:
        print_text(result)
    failing = result.failing()
    if failing and not as_json and find_spec("fairway.cli.explain"):
        click.echo(f"why: fairway explain {failing[0].source.name} {failing[0].target.name}", err=True)
    return not failing


def _members(running: lab.RunningLab) -> list[Member]:
    """Pods first. A pod is to be reached by all of its addresses, a node by one of each IP version."""
    pods = [Member(pod.name, True, pod.namespace, pod.addresses) for pod in running.pods()]
    nodes = [Member(n.name, False, n.namespace, one_of_each_version(n.addresses)) for n in running.nodes()]
    if not pods and not nodes:
        raise FairwayError(
            f"nothing is known of the members of {running.name}", mend=f"take it down: fairway down {running.name}"
        )
    return pods + nodes


def _outcomes(members: Sequence[Member], progress: Progress) -> Iterator[Outcome]:
    from fairway.net.host.ping import Probe
    from fairway.net.host.ping import ping as echo

    total = sum(1 for _ in ways(members, members))
    done = 0
    per_source = max(1, total // max(1, len(members)))
    step = max(1, _CHUNK // per_source)
    for first in range(0, len(members), step):
        chunk = list(ways(members[first : first + step], members))
        probes = [Probe(source.namespace, address) for source, _, address in chunk]
        answers = echo(probes, progress=partial(_show, progress, done, total))
        if total <= _FEW:
            answers = _measured(answers)
        for (source, target, address), answer in zip(chunk, answers, strict=True):
            yield Outcome(source, target, address, answer.rtt_ms, answer.error)
        done += len(chunk)


def _show(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress.show(before + done, total)


def _measured(answers: Sequence[Answer]) -> list[Answer]:
    """The same answers with truer times: the first echoes waited for neighbours to be found."""
    from fairway.net.host.ping import ping as echo

    again = iter(echo([answer.probe for answer in answers if answer.rtt_ms is not None], tries=1))
    later = [answer if answer.rtt_ms is None else next(again) for answer in answers]
    return [first if second.rtt_ms is None else second for first, second in zip(answers, later, strict=True)]


@dataclass(slots=True)
class _Tally:
    """What came back from one address."""

    address: IPAddress
    sent: int = 0
    times: list[float] = field(default_factory=list)
    error: str = ""

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        times = (
            [round(time, 3) for time in (min(self.times), sum(self.times) / len(self.times), max(self.times))]
            if self.times
            else None
        )
        return {
            "address": str(self.address),
            "sent": self.sent,
            "received": len(self.times),
            "rtt_ms": dict(zip(("min", "avg", "max"), times, strict=True)) if times else None,
            "error": self.error,
        }

    def line(self) -> str:
        """For a person."""
        if not self.times:
            return f"{self.address}: {plural(self.sent, 'echo', 'echoes')} sent, none came back"
        average = milliseconds(sum(self.times) / len(self.times))
        return (
            f"{self.address}: {len(self.times)} of {plural(self.sent, 'echo', 'echoes')} came back, "
            f"{milliseconds(min(self.times))}/{average}/{milliseconds(max(self.times))} ms (min/avg/max)"
        )


def _one_pair(source: str, target: str, prefix: str, count: int, interval_s: float, as_json: bool) -> bool:
    start = find_place(source)
    end, addresses = _target(target, prefix, start)
    tallies = [_Tally(address) for address in addresses]
    for number in range(count):
        began = time.monotonic()
        _echo_once(start, tallies, None if as_json else f"{number + 1}/{count}")
        if number + 1 < count:
            time.sleep(max(0.0, began + interval_s - time.monotonic()))
    if as_json:
        print_json({"from": start.name, "to": end, "addresses": [tally.document() for tally in tallies]})
    else:
        for tally in tallies:
            click.echo(tally.line())
    return all(tally.times for tally in tallies)


def _target(target: str, prefix: str, start: Place) -> tuple[str, Sequence[IPAddress]]:
    """The name and addresses of whom to reach, by the IP versions that the source speaks."""
    try:
        address = parse_address(target)
    except UsageError:
        place = find_place(f"{prefix}{target}")
    else:
        return target, [address]
    versions = {address.version for address in start.addresses} or {4, 6}
    addresses = [address for address in place.addresses if address.version in versions]
    if not addresses:
        raise UsageError(f"{place.qualified} has no address that {start.qualified} can send to")
    return place.name, addresses


def _echo_once(start: Place, tallies: Sequence[_Tally], label: str | None) -> None:
    from fairway.net.host.ping import Probe
    from fairway.net.host.ping import ping as echo

    answers = echo([Probe(start.namespace, tally.address) for tally in tallies], tries=1)
    for tally, answer in zip(tallies, answers, strict=True):
        tally.sent += 1
        tally.error = answer.error
        if answer.rtt_ms is not None:
            tally.times.append(answer.rtt_ms)
        if label is not None:
            result = answer.error or "no answer" if answer.rtt_ms is None else f"{milliseconds(answer.rtt_ms)} ms"
            click.echo(f"{label}  {tally.address}  {result}")
