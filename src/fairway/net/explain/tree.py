"""The explanation: direction, host, stage. Frozen values that print as text or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from fairway.net.model.facts import IPAddress


class Verdict(Enum):
    """What becomes of the packet. `UNKNOWN` stands wherever the explainer cannot be sure."""

    ACCEPTED = "accepted"
    DROPPED = "dropped"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    INFO = "info"

    @property
    def fatal(self) -> bool:
        """Whether the packet goes no further, for sure."""
        return self in (Verdict.DROPPED, Verdict.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step on one host; `table`, `chain` and `rule` say where it was decided, if a chain decided it."""

    hook: str  # route, INGRESS, PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING, device
    verdict: Verdict
    text: str
    table: str = ""
    chain: str = ""
    rule: str = ""
    mend: tuple[str, ...] = ()
    speculative: bool = False  # behind it the packet may be another than the one that is followed

    @property
    def where(self) -> str:
        """The place in words."""
        return f"{self.hook} of table {self.table}, chain {self.chain}" if self.table else self.hook


@dataclass(frozen=True, slots=True)
class Hop:
    """What one host does with the packet: `way` is sent, received or forwarded."""

    namespace: str
    label: str
    way: str
    entering: str
    leaving: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Direction:
    """The packet's way in one direction, as far as it gets. `supposed`: the packet before it would not have come."""

    name: str  # "there" or "back"
    source: IPAddress | None
    destination: IPAddress
    hops: tuple[Hop, ...]
    verdict: Verdict
    supposed: bool = False

    @property
    def decisive(self) -> tuple[Hop, Stage] | None:
        """Where the verdict comes from, unless it is accepted: the stage that stops the packet, or the first doubt."""
        if self.verdict is Verdict.ACCEPTED:
            return None
        everything = [(hop, stage) for hop in self.hops for stage in hop.stages]
        found = [pair for pair in everything if pair[1].verdict is self.verdict]
        if self.verdict.fatal:
            return next((pair for pair in everything if pair[1].mend), found[-1] if found else None)
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of a packet from `source` to `destination`, and of the answer to it."""

    source: str
    destination: str
    protocol: str
    port: int | None
    there: Direction
    back: Direction | None

    @property
    def deciding(self) -> Direction:
        """The direction that the verdict comes from."""
        if self.back is None or self.there.verdict.fatal:
            return self.there
        if self.back.verdict.fatal or self.there.verdict is Verdict.ACCEPTED:
            return self.back
        return self.there

    @property
    def verdict(self) -> Verdict:
        """Of the packet and its answer together."""
        return self.deciding.verdict

    @property
    def mend(self) -> tuple[str, ...]:
        """What would mend it, line by line: the first fault of each direction, without repetition."""
        found: dict[str, None] = {}
        for direction in (self.there, self.back):
            if direction is not None:
                stages = [stage for hop in direction.hops for stage in hop.stages if stage.mend]
                found.update(dict.fromkeys(stages[0].mend if stages else ()))
        return tuple(found)

    def json(self) -> dict[str, Any]:
        """The tree as plain values."""
        return {
            "source": self.source,
            "destination": self.destination,
            "protocol": self.protocol,
            "port": self.port,
            "verdict": self.verdict.value,
            "mend": list(self.mend),
            "directions": [_direction(each) for each in (self.there, self.back) if each is not None],
        }


def _direction(direction: Direction) -> dict[str, Any]:
    return {
        "name": direction.name,
        "source": str(direction.source) if direction.source else None,
        "destination": str(direction.destination),
        "verdict": direction.verdict.value,
        "supposed": direction.supposed,
        "hosts": [_hop(hop) for hop in direction.hops],
    }


def _hop(hop: Hop) -> dict[str, Any]:
    return {
        "namespace": hop.namespace,
        "host": hop.label,
        "way": hop.way,
        "entering": hop.entering or None,
        "leaving": hop.leaving or None,
        "stages": [_stage(stage) for stage in hop.stages],
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "hook": stage.hook,
        "verdict": stage.verdict.value,
        "text": stage.text,
        "table": stage.table or None,
        "chain": stage.chain or None,
        "rule": stage.rule or None,
        "mend": list(stage.mend),
    }
