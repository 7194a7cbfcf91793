"""What a benchmark found: samples by who and what, their medians, and the ratios between them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `who` was measured, `what` was measured of it; the value is a median unless `what` says otherwise."""

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

    def add_percentile(self, who: str, what: str, samples: Iterable[float], unit: str, percent: int = 99) -> None:
        """Add a percentile of `samples`, by the nearest rank."""
        ordered = sorted(samples)
        rank = max(0, -(-len(ordered) * percent // 100) - 1)
        self.rows.append(Row(who, f"{what} p{percent}", ordered[rank], unit))

    def compare(self, what: str, who: str, peer: str) -> None:
        """Add the ratio of two rows' values, if both were measured."""
        values = {row.who: row.value for row in self.rows if row.what == what}
        if who in values and values.get(peer):
            self.ratios[f"{what} {who}/{peer}"] = values[who] / values[peer]

    def as_json(self) -> str:
        """One JSON object."""
        rows = [{"who": row.who, "what": row.what, "value": row.value, "unit": row.unit} for row in self.rows]
        return json.dumps({"name": self.name, "rows": rows, "ratios": self.ratios, "notes": self.notes})

    def as_table(self) -> str:
        """The same for a person."""
        wide = max((len(row.who) for row in self.rows), default=0)
        what = max((len(row.what) for row in self.rows), default=0)
        lines = [f"{self.name}"]
        lines += [f"  {row.who:{wide}}  {row.what:{what}}  {row.value:>12,.3f} {row.unit}" for row in self.rows]
        lines += [f"  {name}: {ratio:.3f}" for name, ratio in self.ratios.items()]
        lines += [f"  ({note})" for note in self.notes]
        return "\n".join(lines)
