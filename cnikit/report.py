"""What came of it, for a person and for a program: plugins side by side, a row a case."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cnikit.case import CASES, Case, Level, Outcome, Status
from cnikit.runner import Score

_PAGE_HEAD = """# CNI plugins, by behaviour

Written by `make cni-kit`: each plugin is run as a runtime runs it, one behaviour a case, in every version of the
SPEC that it speaks. What the levels mean, and how to score a plugin of yours: [cnikit/README.md](../cnikit/README.md).

A figure is how many pairs of a case and a version passed, of those that apply.
"""


def as_text(scores: Sequence[Score]) -> str:
    """The table, what was seen where a plugin failed, and the score."""
    shown = _cases(scores)
    width = max(len(case.title) for case in shown)
    columns = [max(len(score.profile.name), 6) for score in scores]
    lines: list[str] = []
    chapter = ""
    for case in shown:
        if case.chapter != chapter:
            chapter = case.chapter
            lines += ["", chapter]
        cells = "  ".join(_cell(score, case).ljust(wide) for score, wide in zip(scores, columns, strict=True))
        lines.append(f"  {case.title:{width}}  {case.level.value:6}  {cells}")
    header = "  ".join(f"{score.profile.name:{wide}}" for score, wide in zip(scores, columns, strict=True))
    lines.insert(0, f"  {'':{width}}  {'level':6}  {header}")
    for score in scores:
        lines += ["", f"{score.profile.name}: what was seen where it failed", *_failures(score, shown, "  ")]
    return "\n".join([*lines, "", *score_lines(scores)])


def score_lines(scores: Sequence[Score]) -> list[str]:
    """A line a plugin: how much of it passed, by level."""
    wide = max(len(score.profile.name) for score in scores)
    return [f"{score.profile.name:{wide}}  {_counts(score)}  (speaks {', '.join(score.versions)})" for score in scores]


def as_markdown(scores: Sequence[Score]) -> str:
    """The same as a page: chapters as headings, a table each, failures as a list."""
    shown = _cases(scores)
    names = [score.profile.name for score in scores]
    lines = [_PAGE_HEAD, "| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for label, level in (("all", None), *((level.value, level) for level in Level)):
        counts = [score.count(level) for score in scores]
        lines.append(f"| {label} | " + " | ".join(f"{passed} of {total}" for passed, total in counts) + " |")
    lines.append("| speaks | " + " | ".join(", ".join(score.versions) for score in scores) + " |")
    chapter = ""
    for case in shown:
        if case.chapter != chapter:
            chapter = case.chapter
            lines += ["", f"## {chapter}", "", "| behaviour | asked for by | " + " | ".join(names) + " |"]
            lines.append("|---|---|" + "---|" * len(names))
        cells = " | ".join(_cell(score, case) for score in scores)
        lines.append(f"| {_escaped(case.title)} | {case.section} ({case.level.value}) | {cells} |")
    lines += ["", "## What was seen"]
    for score in scores:
        failures = _failures(score, shown, "- ")
        lines += ["", f"### {score.profile.name}", "", *(failures or ["Nothing failed."])]
    return "\n".join(lines) + "\n"


def as_json(scores: Sequence[Score]) -> str:
    """Everything, as one JSON object."""
    plugins = []
    for score in scores:
        passed, total = score.count()
        rows = [
            {
                "chapter": case.chapter,
                "case": case.name,
                "title": case.title,
                "section": case.section,
                "level": case.level.value,
                "version": version,
                "status": outcome.status.name.lower(),
                "seen": outcome.seen,
            }
            for (case, version), outcome in score.outcomes.items()
        ]
        program = str(score.profile.program)
        plugins.append(
            {
                "plugin": score.profile.name,
                "program": program,
                "speaks": list(score.versions),
                "passed": passed,
                "applicable": total,
                "outcomes": rows,
            }
        )
    return json.dumps({"plugins": plugins}, indent=2)


def list_cases() -> str:
    """Every case: chapter, name, level, versions, section and sentence."""
    lines = []
    for case in CASES:
        versions = f"{case.since} to {case.until}"
        lines.append(
            f"{case.chapter:13} {case.name:42} {case.level.value:6} {versions:14} {case.section}: {case.title}"
        )
    return "\n".join(lines)


def _cases(scores: Sequence[Score]) -> list[Case]:
    ran = {case.name for score in scores for case, _ in score.outcomes}
    return [case for case in CASES if case.name in ran]


def _cell(score: Score, case: Case) -> str:
    statuses = {outcome.status for outcome in score.of(case).values()} - {Status.NOT_APPLICABLE}
    if Status.FAIL in statuses:
        return "FAIL"
    return "pass" if statuses else "n/a"


def _counts(score: Score) -> str:
    parts = []
    for label, level in (("", None), *((level.value, level) for level in Level)):
        passed, total = score.count(level)
        parts.append(f"{label} {passed} of {total}".strip())
    return f"{parts[0]} passed: {', '.join(parts[1:])}"


def _failures(score: Score, cases: Sequence[Case], bullet: str) -> list[str]:
    """A line for each case that failed; versions in which the same was seen are told together."""
    lines = []
    for case in cases:
        seen: dict[str, list[str]] = {}
        for version, outcome in score.of(case).items():
            if outcome.status is Status.FAIL:
                seen.setdefault(outcome.seen, []).append(version)
        # The same failure with other names or numbers in it is told once.
        alike = _alike(seen)
        lines += [f"{bullet}{case.name} ({', '.join(versions)}): {text}" for text, versions in alike.items()]
    return lines


def _alike(seen: dict[str, list[str]]) -> dict[str, list[str]]:
    found: dict[str, tuple[str, list[str]]] = {}
    for text, versions in seen.items():
        without_numbers = "".join(letter for letter in text if letter not in "0123456789abcdef")
        _, listed = found.setdefault(without_numbers, (text, []))
        listed += versions
    return dict(found.values())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def describe(case: Case, version: str, outcome: Outcome) -> str:
    """One line of progress."""
    seen = f": {outcome.seen}" if outcome.seen else ""
    return f"{outcome.status.value:4} {version} {case.chapter}: {case.title}{seen}"
