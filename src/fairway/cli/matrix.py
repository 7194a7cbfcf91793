"""Who reaches whom in a lab: the pairs, what came of them, and how that is shown. Pings nobody itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import click

from fairway.cli.output import milliseconds
from fairway.net.model.facts import IPAddress

KINDS = ("pods", "nodes", "nodes-pods")
_LARGEST = 16  # members that a matrix is drawn for
_WIDEST = 100  # columns; members are numbered if their names need more
_FAILING = 20  # pairs that are listed by name


@dataclass(frozen=True, slots=True)
class Member:
    """A node or pod: its namespace, and the addresses that others are to reach it by."""

    name: str
    pod: bool
    namespace: str
    addresses: tuple[IPAddress, ...]

    @property
    def versions(self) -> frozenset[int]:
        """The IP versions it speaks."""
        return frozenset(address.version for address in self.addresses)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way of one pair: `rtt_ms` is None if nothing came back, and `error` says why nothing was sent."""

    source: Member
    target: Member
    address: IPAddress
    rtt_ms: float | None
    error: str = ""


@dataclass(slots=True)
class Result:
    """All outcomes, a pair's together."""

    lab: str
    members: Sequence[Member]
    outcomes: list[Outcome] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[Member, Member, list[Outcome]]]:
        """Every pair, with one outcome for each address of the target's."""
        for _, group in groupby(self.outcomes, key=lambda outcome: (outcome.source.name, outcome.target.name)):
            outcomes = list(group)
            yield outcomes[0].source, outcomes[0].target, outcomes

    def summary(self) -> dict[str, dict[str, int]]:
        """How many pairs of each kind there are, and how many are reached by every address."""
        counts = {kind: {"reached": 0, "pairs": 0} for kind in KINDS}
        for source, target, outcomes in self.pairs():
            count = counts[_kind(source, target)]
            count["pairs"] += 1
            count["reached"] += all(outcome.rtt_ms is not None for outcome in outcomes)
        return counts

    def failing(self) -> list[Outcome]:
        """The ways on which nothing came back."""
        return [outcome for outcome in self.outcomes if outcome.rtt_ms is None]


def one_of_each_version(addresses: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
    """The first address of each IP version."""
    first: dict[int, IPAddress] = {}
    for address in addresses:
        first.setdefault(address.version, address)
    return tuple(first.values())


def ways(sources: Sequence[Member], members: Sequence[Member]) -> Iterator[tuple[Member, Member, IPAddress]]:
    """Every address of every other member that speaks a version of the source's, source by source."""
    for source in sources:
        versions = source.versions
        for target in members:
            if target is not source:
                for address in target.addresses:
                    if address.version in versions:
                        yield source, target, address


def print_document(result: Result) -> None:
    """Print the JSON document, a line for each way: there may be a million."""
    head = f'"lab": {json.dumps(result.lab)},\n "summary": {json.dumps(result.summary())}'
    lines = (("," if number else "") + "\n  " + _line(outcome) for number, outcome in enumerate(result.outcomes))
    sys.stdout.write(f'{{{head},\n "pairs": [')
    sys.stdout.writelines(lines)
    sys.stdout.write("\n]}\n")
    sys.stdout.flush()


def print_text(result: Result) -> None:
    """Print the matrix if it is small, the summary, and what fails."""
    if len(result.members) <= _LARGEST:
        click.echo(_drawn(result))
    for kind, count in result.summary().items():
        if count["pairs"]:
            colour = "green" if count["reached"] == count["pairs"] else "red"
            click.secho(f"{kind:<12}{count['reached']} of {count['pairs']} pairs reached", fg=colour)
    failing = result.failing()
    for outcome in failing[:_FAILING]:
        why = f": {outcome.error}" if outcome.error else ""
        click.echo(f"  {outcome.source.name} does not reach {outcome.target.name} ({outcome.address}){why}")
    if len(failing) > _FAILING:
        click.echo(f"  and {len(failing) - _FAILING} more; --json lists all")


def _line(outcome: Outcome) -> str:
    document = {
        "from": outcome.source.name,
        "to": outcome.target.name,
        "address": str(outcome.address),
        "reached": outcome.rtt_ms is not None,
        "rtt_ms": None if outcome.rtt_ms is None else round(outcome.rtt_ms, 3),
    }
    return json.dumps(document | ({"error": outcome.error} if outcome.error else {}))


def _kind(source: Member, target: Member) -> str:
    if source.pod != target.pod:
        return "nodes-pods"
    return "pods" if source.pod else "nodes"


def _drawn(result: Result) -> str:
    """A row for each source, a column for each target, round trips in ms; x: not reached."""
    cells = {(source.name, target.name): _cell(outcomes) for source, target, outcomes in result.pairs()}
    names = [member.name for member in result.members]
    first = max(map(len, names))
    heads = names
    if first + sum(max(len(name), 5) + 2 for name in names) > _WIDEST:
        heads = [str(number + 1) for number in range(len(names))]
        names = [f"{head:>2} {name}" for head, name in zip(heads, names, strict=True)]
        first += 3
    widths = [max(len(head), 5) for head in heads]
    lines = ["ms".ljust(first) + "".join(f"  {head:>{width}}" for head, width in zip(heads, widths, strict=True))]
    for name, source in zip(names, result.members, strict=True):
        row = [cells.get((source.name, target.name), "-") for target in result.members]
        lines.append(name.ljust(first) + "".join(f"  {cell:>{width}}" for cell, width in zip(row, widths, strict=True)))
    return "\n".join(lines) + "\n"


def _cell(outcomes: Sequence[Outcome]) -> str:
    times = [outcome.rtt_ms for outcome in outcomes if outcome.rtt_ms is not None]
    return milliseconds(max(times)) if len(times) == len(outcomes) else "x"
