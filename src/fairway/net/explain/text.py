"""The explanation as text: a verdict, the two ways host by host, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator

from fairway.net.explain.tree import Direction, Explanation, Hop, Stage, Verdict

_HOOK_WIDTH = 12


def text_of(explanation: Explanation) -> str:
    """The whole tree, for people."""
    lines = [_headline(explanation)]
    for direction in (explanation.there, explanation.back):
        if direction is not None:
            lines += _direction(direction)
    if explanation.back is None and explanation.there.verdict is Verdict.ACCEPTED:
        lines.append("  back     not followed: who has the address is not known here")
    if explanation.mend:
        lines.append("  mend")
        lines += [f"    {line}" for line in explanation.mend]
    return "\n".join(lines)


def _headline(explanation: Explanation) -> str:
    direction = explanation.deciding
    source = _named(explanation.source, str(explanation.there.source or ""))
    destination = _named(explanation.destination, str(explanation.there.destination))
    protocol = explanation.protocol + (f" port {explanation.port}" if explanation.port is not None else "")
    text = f"{source} -> {destination}, {protocol}: {explanation.verdict.value.upper()}"
    decisive = direction.decisive
    if decisive is None:
        return text
    hop, stage = decisive
    answer = " (the answer)" if direction is explanation.back else ""
    return f"{text} on {hop.label}{answer}, {stage.where}: {stage.text}"


def _named(name: str, address: str) -> str:
    return name if name == address or not address else f"{name} ({address})"


def _direction(direction: Direction) -> Iterator[str]:
    note = ", if the packet had come: " if direction.supposed else ": "
    yield f"  {direction.name}{note}{direction.verdict.value}"
    width = max((len(hop.label) for hop in direction.hops), default=0)
    for hop in direction.hops:
        yield from _hop(hop, width)


def _hop(hop: Hop, width: int) -> Iterator[str]:
    head = f"    {hop.label:<{width}}  {hop.way:<9}  "
    for stage in hop.stages:
        yield head + _stage(stage)
        head = " " * len(head)


def _stage(stage: Stage) -> str:
    place = f"{stage.table} {stage.chain}: " if stage.table else ""
    verdict = (
        "" if stage.verdict in (Verdict.ACCEPTED, Verdict.INFO) and not stage.table else f"{stage.verdict.value}, "
    )
    if stage.verdict is Verdict.ACCEPTED and stage.text.startswith("no chain"):
        verdict = ""
    return f"{stage.hook:<{_HOOK_WIDTH}} {place}{verdict}{stage.text}"
