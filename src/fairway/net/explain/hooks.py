"""What happens to a packet at one hook of one host: a stage for each base chain there, in their order."""

from __future__ import annotations

from collections.abc import Iterator

from fairway.net.explain import mend
from fairway.net.explain.legacy import legacy_stages
from fairway.net.explain.packet import Passage
from fairway.net.explain.ruleset import Chain, End, Outcome, Ruleset, Table, outcomes
from fairway.net.explain.snapshot import Host
from fairway.net.explain.tree import Stage, Verdict
from fairway.net.explain.words import rule_words

_CONNTRACK_PRIORITY = -200  # NF_IP_PRI_CONNTRACK
_TRACKING_HOOKS = ("prerouting", "output")
_UNREADABLE = "the nftables rules of this namespace could not be read"
_REFUSED = (End.DROP, End.REJECT)
_DOUBTS = {
    End.TRANSLATE: "may translate the packet's addresses or ports; what follows holds only if it does not",
    End.ANYTHING: "what it does is not understood; what follows holds only if it lets the packet be",
}


def pass_hook(host: Host, ruleset: Ruleset | None, hook: str, passage: Passage) -> list[Stage]:
    """The stages at `hook` (nftables' name of it) up to the one that stops the packet; `passage` takes the changes."""
    name = hook.upper()
    passage.seen = hook not in _TRACKING_HOOKS
    stages: list[Stage] = []
    if ruleset is None:
        stages.append(Stage(name, Verdict.UNKNOWN, _UNREADABLE, speculative=True))
    for table, chain in ruleset.base_chains(hook, passage.packet.version) if ruleset else ():
        if hook in _TRACKING_HOOKS:
            tracked = chain.priority > _CONNTRACK_PRIORITY
            passage.seen = None if chain.priority == _CONNTRACK_PRIORITY else tracked
        for stage in _chain_stages(host, name, table, chain, passage):
            stages.append(stage)
            if stage.verdict.fatal:
                return stages
    for stage in legacy_stages(host, hook, passage):
        stages.append(stage)
        if stage.verdict.fatal:
            return stages
    return stages or [Stage(name, Verdict.ACCEPTED, "no chain here")]


def pass_device(host: Host, ruleset: Ruleset | None, hook: str, passage: Passage) -> list[Stage]:
    """The stages at a device's `ingress` or `egress`; none, most often."""
    device = passage.entering if hook == "ingress" else passage.leaving
    link = host.link(device)
    stages = []
    if link is not None and link.filtered:
        stages.append(
            Stage("device", Verdict.UNKNOWN, f"programs (tc or XDP) at {device} see the packet; they are not read")
        )
    for table, chain in ruleset.device_chains(hook, device) if ruleset else ():
        found = outcomes(table, chain, passage)
        if chain.device is None:
            found = [*found, Outcome(End.ACCEPT, None, sure=False)]
        stages.append(_stage(host, hook.upper(), chain, found, passage))
    return stages


def _chain_stages(host: Host, name: str, table: Table, chain: Chain, passage: Passage) -> Iterator[Stage]:
    if chain.kind == "nat" and passage.connection not in ("new", None):
        yield Stage(name, Verdict.ACCEPTED, "only a flow's first packet comes here", _table(chain), chain.name)
        return
    yield _stage(host, name, chain, outcomes(table, chain, passage), passage)


def _stage(host: Host, name: str, chain: Chain, found: list[Outcome], passage: Passage) -> Stage:
    ends = {outcome.end for outcome in found}
    first = found[0]
    if ends <= set(_REFUSED):
        help_ = mend.for_chain(host, chain, passage)
        return Stage(name, Verdict.DROPPED, _said(chain, first), _table(chain), chain.name, _rule(first), help_)
    if ends == {End.ACCEPT}:
        return Stage(name, Verdict.ACCEPTED, _said(chain, first), _table(chain), chain.name, _rule(first))
    doubtful = next((outcome for outcome in found if outcome.end in _DOUBTS), None)
    if doubtful is not None:
        text = f"{_said(chain, doubtful)}: {_DOUBTS[doubtful.end]}"
        return Stage(name, Verdict.UNKNOWN, text, _table(chain), chain.name, _rule(doubtful), speculative=True)
    others = [outcome for outcome in found if outcome.end is not first.end]
    text = f"{_said(chain, first)}, if its conditions hold (they cannot be told); else {_said(chain, others[-1])}"
    return Stage(name, Verdict.UNKNOWN, text, _table(chain), chain.name, _rule(first))


def _said(chain: Chain, outcome: Outcome) -> str:
    if outcome.rule is None:
        return f"policy {chain.policy}" if outcome.end.value == chain.policy else "the table may be dormant"
    return rule_words(outcome.rule)


def _rule(outcome: Outcome) -> str:
    return "policy" if outcome.rule is None else f"handle {outcome.rule.handle}"


def _table(chain: Chain) -> str:
    return f"{chain.family} {chain.table}"
