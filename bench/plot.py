"""A small SVG of step curves: what share of things had happened by when. Readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 74, 54
_STEPS = 200
"""Steps of one curve at most: more are not seen."""

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 16px; font-weight: 600; fill: #24292f }
  .grid { stroke: #8c959f; stroke-opacity: .3 }
  .curve { fill: none; stroke-width: 2.5; stroke-linejoin: round }
  .c0 { stroke: #0969da } .c1 { stroke: #cf5a00 } .c2 { stroke: #1a7f37 } .c3 { stroke: #8250df }
  @media (prefers-color-scheme: dark) {
    text { fill: #9aa4ae } .title { fill: #e6edf3 }
    .c0 { stroke: #58a6ff } .c1 { stroke: #f0883e } .c2 { stroke: #3fb950 } .c3 { stroke: #bc8cff }
  }
"""


@dataclass(frozen=True)
class Curve:
    """A name for the legend, and the values."""

    name: str
    samples: Sequence[float]


def shares(title: str, subtitle: str, axis: str, curves: Sequence[Curve]) -> str:
    """An SVG: for each curve the share of its samples, in percent, that are at most x; `axis` names x and its unit."""
    step = _step(max(max(curve.samples) for curve in curves))
    end = step
    while end < max(max(curve.samples) for curve in curves):
        end += step
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="43">{escape(subtitle)}</text>',
        *_axes(axis, step, end),
    ]
    for index, curve in enumerate(curves):
        parts.append(f'<path class="curve c{index}" d="{_path(sorted(curve.samples), end)}"/>')
        x = _LEFT + index * (WIDTH - _LEFT - _RIGHT) // len(curves)
        parts.append(
            f'<path class="curve c{index}" d="M{x} 60h22"/><text x="{x + 29}" y="64">{escape(curve.name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def write(path: Path, svg: str) -> None:
    """Put an SVG in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg)


def _step(most: float) -> float:
    """The distance of marks on an axis up to `most`: 1, 2 or 5 times a power of ten, four to eight of them."""
    step = 1e-6
    while True:
        for factor in (1, 2, 5):
            if most / (step * factor) <= 8:
                return step * factor
        step *= 10


def _x(value: float, end: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / end


def _y(share: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share


def _axes(axis: str, step: float, end: float) -> list[str]:
    lines = []
    for percent in (0, 25, 50, 75, 100):
        y = _y(percent / 100)
        lines.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    for number in range(round(end / step) + 1):
        x = _x(number * step, end)
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 19}" text-anchor="middle">{number * step:g}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    lines.append(f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(axis)}</text>')
    return lines


def _path(ordered: Sequence[float], end: float) -> str:
    """Steps through the samples, or through so many of them as are seen."""
    count = len(ordered)
    ranks = sorted({-(-count * step // _STEPS) for step in range(1, _STEPS + 1)})
    path = f"M{_x(0, end):.1f} {_y(0):.1f}"
    for rank in ranks:
        path += f"H{_x(ordered[rank - 1], end):.1f}V{_y(rank / count):.1f}"
    return path + f"H{_x(end, end):.1f}"
