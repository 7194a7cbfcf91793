"""An nftables ruleset, and what a base chain of it does with a packet: every end that it may come to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from fairway.net.explain import statements
from fairway.net.explain.matching import Sets, choose, holds
from fairway.net.explain.packet import Passage
from fairway.net.explain.snapshot import Json

MOST_JUMPS = 16  # NFT_JUMP_STACK_SIZE: linux/netfilter/nf_tables.h
_FAMILIES = {4: ("ip", "inet"), 6: ("ip6", "inet")}


class End(Enum):
    """How a packet may leave a base chain."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    TRANSLATE = "translate"  # its addresses or ports become others
    ANYTHING = "anything"  # a program, or a statement that is not understood, decides


@dataclass(frozen=True, slots=True)
class Outcome:
    """One end, and the rule that leads to it; `sure`: no earlier rule and no condition may prevent it."""

    end: End
    rule: Rule | None  # None: the policy
    sure: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its chain, its place in it (from 1), and what it says."""

    chain: str
    place: int
    handle: int
    comment: str
    statements: tuple[Json, ...]


@dataclass(slots=True)
class Chain:
    """A chain; a base chain has a hook."""

    family: str
    table: str
    name: str
    hook: str = ""
    kind: str = ""
    priority: int = 0
    policy: str = "accept"
    device: object = None
    rules: list[Rule] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """A table; `doubtful`: it has flags that cannot be read, and may be dormant."""

    family: str
    name: str
    doubtful: bool = False
    dormant: bool = False
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: list[Json] = field(default_factory=list)


class Ruleset:
    """The tables of one namespace, in the form that `nft -j list ruleset` has."""

    def __init__(self, listed: Iterable[Json]) -> None:
        self._tables: dict[tuple[str, str], Table] = {}
        for item in listed:
            for kind, body in item.items():
                self._add(kind, body)

    def base_chains(self, hook: str, version: int) -> list[tuple[Table, Chain]]:
        """The base chains that a packet of that IP version passes at `hook`, in their order."""
        found = [(table, chain) for table, chain in self._at(hook) if table.family in _FAMILIES[version]]
        return sorted(found, key=lambda pair: pair[1].priority)

    def device_chains(self, hook: str, device: str) -> list[tuple[Table, Chain]]:
        """The base chains at a device's ingress or egress; those too whose device the listing does not name."""
        found = []
        for table, chain in self._at(hook):
            devices = [chain.device] if isinstance(chain.device, str) else chain.device
            if devices is None or (isinstance(devices, list) and device in devices):
                found.append((table, chain))
        return sorted(found, key=lambda pair: pair[1].priority)

    def has_family(self, family: str) -> bool:
        """Whether a base chain of that family, such as bridge or arp, is there."""
        return any(table.family == family and _hooks(table) for table in self._tables.values())

    def _at(self, hook: str) -> list[tuple[Table, Chain]]:
        tables = [table for table in self._tables.values() if not table.dormant]
        return [(table, chain) for table in tables for chain in table.chains.values() if chain.hook == hook]

    def _add(self, kind: str, body: Json) -> None:
        if kind == "table":
            flags = body.get("flags", [])
            names = {flags} if isinstance(flags, str) else set(flags)
            table = self._table(body["family"], body["name"])
            table.dormant = names == {"dormant"}
            table.doubtful = bool(names - {"dormant", "owner", "persist"}) or len(names) > 1
        elif kind == "chain":
            chain = Chain(body["family"], body["table"], body["name"])
            chain.hook, chain.kind = body.get("hook", ""), body.get("type", "")
            chain.priority, chain.policy = body.get("prio", 0), body.get("policy", "accept")
            chain.device = body.get("dev")
            self._table(chain.family, chain.table).chains[chain.name] = chain
        elif kind == "rule":
            rules = self._table(body["family"], body["table"]).chains[body["chain"]].rules
            expressions = tuple(body.get("expr", ()))
            rules.append(Rule(body["chain"], len(rules) + 1, body["handle"], body.get("comment", ""), expressions))
        elif kind in ("set", "map"):
            self._table(body["family"], body["table"]).sets.append(body)

    def _table(self, family: str, name: str) -> Table:
        return self._tables.setdefault((family, name), Table(family, name))


def _hooks(table: Table) -> list[str]:
    return [chain.hook for chain in table.chains.values() if chain.hook]


def outcomes(table: Table, chain: Chain, passage: Passage) -> list[Outcome]:
    """Every end that the packet may come to in a base chain, in the order of the rules; the policy's last."""
    run = _Run(table, passage)
    falls = run.chain(chain, sure=True, depth=0)
    if falls:
        end = End.DROP if chain.policy == "drop" else End.ACCEPT
        run.found.append(Outcome(end, None, sure=not run.found))
    if table.doubtful:
        run.found.append(Outcome(End.ACCEPT, None, sure=False))
    return run.found


class _Run:
    """One packet in one table: the ends found so far."""

    def __init__(self, table: Table, passage: Passage) -> None:
        self._table = table
        self._passage = passage
        self._sets = Sets(table.sets)
        self.found: list[Outcome] = []

    def chain(self, chain: Chain, *, sure: bool, depth: int) -> bool:
        """Walk a chain's rules; whether the packet may come out at its end, or return."""
        returns = False
        for rule in chain.rules:
            goes_on, may_return = self._rule(rule, sure=sure, depth=depth)
            returns |= may_return
            if not goes_on:
                return returns
            sure = sure and not may_return
        return True

    def _rule(self, rule: Rule, *, sure: bool, depth: int) -> tuple[bool, bool]:
        """Whether the next rule may be reached, and whether the packet may return to the calling chain."""
        certain = True  # every condition of this rule surely holds
        for statement in rule.statements:
            ((name, body),) = statement.items()
            if name == "match":
                truth = holds(body, self._passage, self._sets)
                if truth is False:
                    return True, False
                certain &= truth is True
            elif name == "vmap":
                return self._map(rule, body, sure=sure and certain, certain=certain, depth=depth)
            elif name in _VERDICTS:
                goes_on, returns = self._verdict(rule, name, body, sure=sure and certain, depth=depth)
                return goes_on or not certain, returns
            else:
                effect = statements.effect(name, body)
                if effect is statements.Effect.CONDITION:
                    certain = False
                elif effect in _ENDS:
                    self._end(_ENDS[effect], rule, sure=sure and certain)
                    return not certain or effect is statements.Effect.UNKNOWN, effect is statements.Effect.UNKNOWN
                elif effect is statements.Effect.ALTER:
                    surely = sure and certain and not self.found
                    certain &= statements.alter(name, body, self._passage, self._sets, sure=surely)
        return True, False

    def _map(self, rule: Rule, body: Json, *, sure: bool, certain: bool, depth: int) -> tuple[bool, bool]:
        verdicts = choose(body, self._passage, self._sets)
        if verdicts is None:
            self._end(End.ANYTHING, rule, sure=False)
            return True, True
        goes_on, returns = not (certain and any(truth for truth, _ in verdicts)), False
        for truth, verdict in verdicts:
            ((name, inner),) = verdict.items()
            further, may_return = self._verdict(rule, name, inner, sure=sure and bool(truth), depth=depth)
            goes_on |= further
            returns |= may_return
        return goes_on, returns

    def _verdict(self, rule: Rule, name: str, body: Any, *, sure: bool, depth: int) -> tuple[bool, bool]:
        """As `_rule`, for a verdict whose conditions hold; `sure` says whether they certainly do."""
        if name == "continue":
            return True, False
        if name == "return":
            return False, True
        if name in ("accept", "drop"):
            self._end(End(name), rule, sure=sure)
            return False, False
        target = self._table.chains.get(body.get("target", "")) if name in ("jump", "goto") else None
        if target is None or depth >= MOST_JUMPS:
            self._end(End.ANYTHING, rule, sure=False)
            return True, True
        falls = self.chain(target, sure=sure, depth=depth + 1)
        return (falls, False) if name == "jump" else (False, falls)

    def _end(self, end: End, rule: Rule, *, sure: bool) -> None:
        self.found.append(Outcome(end, rule, sure=sure and not self.found))


_VERDICTS = ("accept", "drop", "return", "continue", "jump", "goto")
_ENDS = {
    statements.Effect.REJECT: End.REJECT,
    statements.Effect.TRANSLATE: End.TRANSLATE,
    statements.Effect.UNKNOWN: End.ANYTHING,
}
