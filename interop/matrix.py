"""The matrix of all outcomes: as a table for a terminal, and as a page of the documentation."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from interop.cases import CASES
from interop.peers import PEERS, known
from interop.trial import FAIL, NOT_SUPPORTED, PASS, Outcome

DOCS = Path(__file__).parent.parent / "docs" / "interop.md"
_MARKS = {PASS: "pass", FAIL: "FAIL", NOT_SUPPORTED: "-"}


class Progress:
    """A line about how far it is: renewed in place on a terminal, else a line for each cell."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._count = 0
        self._failed = 0
        self._begun = time.monotonic()
        self._lock = threading.Lock()

    def done(self, outcome: Outcome) -> None:
        """A cell more is known."""
        with self._lock:
            self._count += 1
            self._failed += outcome.verdict == FAIL
            cell = f"{outcome.client} to {outcome.server}, {outcome.case}: {outcome.verdict}"
            elapsed = time.monotonic() - self._begun
            line = f"{self._count}/{self._total} after {elapsed:.0f} s, {self._failed} failed; {cell}"
            if sys.stderr.isatty():
                print(f"\r\x1b[K{line}", end="\n" if self._count == self._total else "", file=sys.stderr, flush=True)
            else:
                print(line, file=sys.stderr, flush=True)


class Matrix:
    """A row a case, a column a pair."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self._cells = {(outcome.case, outcome.client, outcome.server): outcome for outcome in outcomes}
        self._pairs = list(dict.fromkeys((outcome.client, outcome.server) for outcome in outcomes))
        self._cases = [case for case in CASES.values() if any(known[0] == case.name for known in self._cells)]

    def text(self) -> str:
        """For a terminal."""
        wide = max(len(case.name) for case in self._cases)
        heads = [f"{client}>{server}" for client, server in self._pairs]
        lines = [" " * wide + "  " + "  ".join(heads)]
        for case in self._cases:
            marks = [
                self._mark(case.name, pair).ljust(len(head)) for pair, head in zip(self._pairs, heads, strict=True)
            ]
            lines.append(f"{case.name:{wide}}  {'  '.join(marks)}".rstrip())
        lines += ["", *self._explained(FAIL)]
        return "\n".join(lines).rstrip()

    def _mark(self, case: str, pair: tuple[str, str]) -> str:
        outcome = self._cells.get((case, *pair))
        if outcome is None:
            return ""
        other = outcome.verdict == PASS and outcome.protocol != CASES[case].protocol
        return _MARKS[outcome.verdict] + (" (h3)" if other else "")

    def _explained(self, verdict: str) -> list[str]:
        return [_line(outcome) for outcome in self._cells.values() if outcome.verdict == verdict]

    def document(self) -> str:
        """The page."""
        heads = [f"{client} → {server}" for client, server in self._pairs]
        lines = [
            _INTRODUCTION.format(date=time.strftime("%Y-%m-%d")),
            f"| | {' | '.join(heads)} |",
            f"|---{'|---' * len(heads)}|",
        ]
        for case in self._cases:
            marks = [self._mark(case.name, pair) for pair in self._pairs]
            lines.append(f"| `{case.name}` | {' | '.join(marks)} |")
        lines += ["", "## The cases", "", "| | | |", "|---|---|---|"]
        lines += [f"| {case.letters} | `{case.name}` | {case.what} |" for case in self._cases]
        lines += ["", "## What failed, and why", ""]
        lines += [f"- {line}" for line in self._explained(FAIL)] or ["Nothing."]
        lines += ["", "## What is not there, and why", ""]
        lines += [f"- {line}" for line in self._explained(NOT_SUPPORTED)] or ["Nothing."]
        lines += ["", "## Who was tried", ""]
        names = dict.fromkeys(name for pair in self._pairs for name in pair)
        lines += [f"- {name}: {PEERS[name].what}" for name in names]
        return "\n".join(lines) + "\n"


def _line(outcome: Outcome) -> str:
    line = f"{outcome.client} to {outcome.server}, {outcome.case}: {outcome.why}"
    reason = known(outcome.client, outcome.server, outcome.case) if outcome.verdict == FAIL else None
    return line if reason is None else f"{line} ({reason})"


_INTRODUCTION = """\
# Interoperation

The cases of the public QUIC interop runner, as `make interop` ran them on {date}: client → server, on a network of
their own, over its link (15 ms each way, 10 Mbit/s, a queue of 25 packets) and with its faults, which a process brings
about packet by packet. A case passes if every file came byte by byte, and if the captures of both ends, decrypted by
tshark with the client's secrets, show what the case is about: so many handshakes, that version, those frames. What an
endpoint says of itself does not count.

Where both ends speak it, cases are run over HTTP/0.9 (`hq-interop`) as in that runner, but for `http3`; where one
speaks only HTTP/3, over that: "(h3)". The runner's two measurements (goodput, cross traffic) and its WebTransport
suite are not here: throughput is measured by `make bench`, WebTransport is tested in `tests/interop`.
"""
