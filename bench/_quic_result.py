"""Rows and ratios of one QUIC benchmark, as the harness prints them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: the median of its samples."""

    who: str
    what: str
    value: float
    unit: str


@dataclass(slots=True)
class Result:
    """A benchmark's rows, and ratios named "WHAT fairway/PEER"; `notes` say how it was measured."""

    name: str
    rows: list[Row] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, who: str, what: str, samples: Iterable[float], unit: str) -> float:
        """Add the median of `samples`; returns it."""
        value = statistics.median(samples)
        self.rows.append(Row(who, what, value, unit))
        return value

    def compare(self, what: str, who: str, peer: str, *, less_is_better: bool = False) -> None:
        """Add how many times better `who` is than `peer`, if both were measured."""
        values = {row.who: row.value for row in self.rows if row.what == what}
        if who in values and peer in values and values[peer] and values[who]:
            ratio = values[peer] / values[who] if less_is_better else values[who] / values[peer]
            self.ratios[f"{what} {who}/{peer}"] = ratio

    def as_json(self) -> str:
        """One JSON object."""
        rows = [{"who": row.who, "what": row.what, "value": row.value, "unit": row.unit} for row in self.rows]
        return json.dumps({"name": self.name, "rows": rows, "ratios": self.ratios, "notes": self.notes})

    def as_table(self) -> str:
        """The same for a person."""
        who = max((len(row.who) for row in self.rows), default=0)
        what = max((len(row.what) for row in self.rows), default=0)
        lines = [self.name]
        lines += [f"  {row.who:{who}}  {row.what:{what}}  {row.value:>12,.3f} {row.unit}" for row in self.rows]
        lines += [f"  {name}: {ratio:.2f}" for name, ratio in self.ratios.items()]
        lines += [f"  ({note})" for note in self.notes]
        return "\n".join(lines)
