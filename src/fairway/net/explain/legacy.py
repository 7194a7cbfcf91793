"""iptables-legacy, as far as it is read: the FORWARD chains' policies and rules. The rest may do anything."""

from __future__ import annotations

from collections.abc import Iterator

from fairway.net.explain import mend
from fairway.net.explain.packet import Passage
from fairway.net.explain.snapshot import Host, LegacyRule, LegacyTable
from fairway.net.explain.tree import Stage, Verdict

_TABLES = {  # which tables have a chain at a hook: iptables(8)
    "prerouting": ("raw", "mangle", "nat"),
    "input": ("mangle", "filter", "security", "nat"),
    "forward": ("mangle", "filter", "security"),
    "output": ("raw", "mangle", "nat", "filter", "security"),
    "postrouting": ("mangle", "nat"),
}
_REFUSALS = ("DROP", "REJECT")


def legacy_stages(host: Host, hook: str, passage: Passage) -> Iterator[Stage]:
    """A stage for each legacy table that has a chain at `hook`."""
    for name in _TABLES.get(hook, ()):
        for table in host.legacy:
            if table.name != name or table.version != passage.packet.version:
                continue
            if table.name == "nat" and passage.connection == "established":
                continue
            if hook == "forward":
                yield _forward(host, table, passage)
                continue
            passage.mark = None
            if table.name == "raw":
                passage.state = None
            yield _unread(table, hook)


def _forward(host: Host, table: LegacyTable, passage: Passage) -> Stage:
    ends = list(_ends(table, passage))
    where = (_title(table), "FORWARD")
    text = ends[0][1]
    if all(target in _REFUSALS for target, _ in ends):
        help_ = mend.for_legacy(host, table, passage)
        return Stage("FORWARD", Verdict.DROPPED, text, *where, mend=help_)
    if all(target == "ACCEPT" for target, _ in ends):
        return Stage("FORWARD", Verdict.ACCEPTED, text, *where)
    text = f"{text}, if its conditions hold (they cannot be told); else {ends[-1][1]}"
    return Stage("FORWARD", Verdict.UNKNOWN, text, *where)


def _ends(table: LegacyTable, passage: Passage) -> Iterator[tuple[str, str]]:
    """Each target that may decide, with its words; an empty target may do anything."""
    for place, rule in enumerate(table.rules, 1):
        truth = _applies(rule, passage)
        if truth is False:
            continue
        if rule.target in ("LOG", "TRACE", "NFLOG", "MARK", "TCPMSS"):
            continue
        terminal = rule.target if rule.target in ("ACCEPT", *_REFUSALS) else ""
        yield terminal, f"rule {place}: {rule.target or 'a verdict that is not read'}"
        if truth and terminal:
            return
    yield table.policy, f"policy {table.policy.lower()}"


def _applies(rule: LegacyRule, passage: Passage) -> bool | None:
    if rule.unconditional:
        return True
    wanted, name = (rule.in_interface, passage.entering) if rule.in_interface else (rule.out_interface, passage.leaving)
    if not wanted:
        return None
    return name.startswith(wanted[:-1]) if wanted.endswith("+") else name == wanted


def _unread(table: LegacyTable, hook: str) -> Stage:
    name = hook.upper()
    text = "iptables-legacy's rules are read in FORWARD only"
    return Stage(name, Verdict.UNKNOWN, text, _title(table), name, speculative=table.name != "filter")


def _title(table: LegacyTable) -> str:
    return f"{'iptables' if table.version == 4 else 'ip6tables'}-legacy {table.name}"
