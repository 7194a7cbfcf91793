"""Network policy in our nftables table: what isolated pods may get and send, at the forward hook.

    chain policies  what is forwarded: answers pass; by its source, then by its destination, a packet goes by the
                    chain of the pod whose address that is; an address that no policy isolates is in neither map
    policy-in-*     a pod's policies: a line that lets it pass returns, the last line counts and drops
    policy-out-*

Two look-ups in maps, and the lines of the policies of the pods concerned: the number of pods and policies costs
nothing. What a host itself sends to its pods, or gets from them, is not forwarded: policies do not speak of it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from fairway.net.kernel.netfilter import named_sets, wire
from fairway.net.kernel.netfilter.named_sets import SetRecord
from fairway.net.kernel.netfilter.nftables import Json
from fairway.net.kernel.netfilter.rules import (
    ACCEPT,
    COUNT,
    DROP,
    TableDriver,
    add_rule,
    address,
    field,
    match,
    meta,
    network,
)
from fairway.net.model.errors import KernelError
from fairway.net.model.policy import Direction
from fairway.net.model.policy_table import (
    Element,
    Isolated,
    PolicyChain,
    PolicyDelta,
    PolicyTable,
    RuleLine,
    SetKind,
)

PREFIX = "policy-"
BASE = "policies"
_FORWARD = 2  # NF_INET_FORWARD: linux/netfilter.h
_ACCEPT_POLICY = 1
_PRIORITY = -10  # before what other programs do at "filter": nothing that is to be dropped is counted there
_MAPS = {
    (Direction.EGRESS, 4): "policy-from-4",
    (Direction.EGRESS, 6): "policy-from-6",
    (Direction.INGRESS, 4): "policy-to-4",
    (Direction.INGRESS, 6): "policy-to-6",
}
_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}


class PolicyDriver(TableDriver):
    """Our table `name` of the inet family, in the namespace of the thread that makes the driver; it must be there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._table = name

    def replace(self, wanted: PolicyTable) -> None:
        """Put `wanted` in the place of all that there is, in one transaction: no packet passes in between.

        Only where somebody else has put a thing of another kind under one of our names, that has to go first.
        """
        try:
            self._nft.run(self._replacing(wanted))
        except KernelError as error:
            if error.errno == errno.EPERM:
                raise
            self._nft.run(self._replacing(PolicyTable()))
            self._nft.run(self._replacing(wanted))

    def apply(self, delta: PolicyDelta) -> None:
        """Make the change, or nothing of it. KernelError: what is there is not what the change is a change of."""
        sets = {name: (kind, frozenset(delta.add.get(name, ()))) for name, kind in delta.new_sets.items()}
        grown = {name: elements for name, elements in delta.add.items() if name not in sets}
        commands = self._adding(sets.items(), delta.new_chains, ())
        commands += [self._elements("add", name, map(_written, elements)) for name, elements in grown.items()]
        # An address that goes by another chain from now on: nft knows no replacing.
        commands += self._ways("delete", delta.release)
        commands += self._ways("add", delta.isolate)
        commands += [self._elements("delete", name, map(_written, gone)) for name, gone in delta.remove.items()]
        commands += [self._chain("delete", name) for name in sorted(delta.old_chains)]
        commands += [{"delete": {"set": self._named(name)}} for name in sorted(delta.old_sets)]
        self._nft.run(commands)

    def observe(self, wanted: PolicyTable) -> PolicyTable:
        """What there is. A set of networks is taken to be that of `wanted` if it covers the same.

        What is not as it should be is left out: then the whole is not what is wanted.
        """
        chains = self._chains()
        found = {record.name: record for record in self._sets()}
        if not chains and not found:
            return PolicyTable()
        sets: dict[str, tuple[SetKind, frozenset[Element]]] = {}
        for name, record in found.items():
            if record.is_map or record.kind is None:
                continue
            if not record.kind.networks:
                sets[name] = (record.kind, frozenset(named_sets.members(self._socket, self._table, record)))
                continue
            known = wanted.sets.get(name)
            if known is not None and named_sets.intervals(self._socket, self._table, record) == named_sets.intervals_of(
                known[1]
            ):
                sets[name] = known
        return PolicyTable(self._base_is_right(), sets, chains, self._isolated())

    # What there is

    def _sets(self) -> list[SetRecord]:
        return [each for each in named_sets.named_sets(self._socket, self._table) if each.name.startswith(PREFIX)]

    def _isolated(self) -> frozenset[Isolated]:
        return frozenset(
            Isolated(direction, address, version, chain)
            for (direction, version), name in _MAPS.items()
            for address, chain in named_sets.verdicts(self._socket, self._table, name).items()
        )

    def _chains(self) -> dict[str, PolicyChain]:
        comments: dict[str, list[RuleLine]] = {}
        for rule in self._socket.rules(self._table):
            if rule.chain.startswith(PREFIX):
                comments.setdefault(rule.chain, []).append(RuleLine(rule.comment))
        return {name: PolicyChain(name, Direction.INGRESS, tuple(lines)) for name, lines in comments.items()}

    def _base_is_right(self) -> bool:
        chain = self._socket.chain(self._table, BASE)
        if chain is None or (chain.hook, chain.priority, chain.policy) != (_FORWARD, _PRIORITY, _ACCEPT_POLICY):
            return False
        return self._socket.comments(self._table, BASE) == [comment for comment, _ in _base_rules()]

    # Commands

    def _replacing(self, wanted: PolicyTable) -> list[Json]:
        """First nothing refers to anything any more; then what stays is filled anew, and what does not is taken away.

        A chain or set that stays is not deleted first: nft would not find what was made under the same name.
        """
        kept = {*wanted.sets, *wanted.chains, *((BASE, *_MAPS.values()) if wanted.active else ())}
        chains = self._socket.chains(wire.NFPROTO_INET)
        old_chains = [chain.name for chain in chains if chain.table == self._table and _is_ours(chain.name)]
        old_sets = {record.name: "map" if record.is_map else "set" for record in self._sets()}
        commands: list[Json] = [{"flush": {"chain": self._named(name)}} for name in old_chains]
        commands += [{"flush": {kind: self._named(name)}} for name, kind in old_sets.items()]
        commands += [self._chain("delete", name) for name in old_chains if name not in kept]
        commands += [{"delete": {kind: self._named(name)}} for name, kind in old_sets.items() if name not in kept]
        if wanted.active:
            commands += self._beginning()
            commands += self._adding(wanted.sets.items(), wanted.chains.values(), wanted.isolated)
        return commands

    def _beginning(self) -> list[Json]:
        """The chain that every forwarded packet passes, and its maps."""
        commands: list[Json] = [
            {"add": {"map": {**self._named(name), "type": _TYPES[version], "map": "verdict"}}}
            for (_, version), name in _MAPS.items()
        ]
        base = {**self._named(BASE), "type": "filter", "hook": "forward", "prio": _PRIORITY, "policy": "accept"}
        commands.append({"add": {"chain": base}})
        return commands + [self._rule(BASE, comment, expressions) for comment, expressions in _base_rules()]

    def _adding(
        self,
        sets: Iterable[tuple[str, tuple[SetKind, frozenset[Element]]]],
        chains: Iterable[PolicyChain],
        isolated: Iterable[Isolated],
    ) -> list[Json]:
        commands: list[Json] = []
        for name, (kind, elements) in sets:
            commands.append({"add": {"set": {**self._named(name), **_declared(kind)}}})
            if elements:
                commands.append(self._elements("add", name, map(_written, sorted(elements, key=str))))
        for chain in chains:
            commands.append(self._chain("add", chain.name))
            *lines, last = chain.lines
            commands += [self._rule(chain.name, line.comment, _passing(line, chain.direction)) for line in lines]
            commands.append(self._rule(chain.name, last.comment, [COUNT, DROP]))
        return commands + self._ways("add", isolated)

    def _ways(self, verb: str, isolated: Iterable[Isolated]) -> list[Json]:
        by_map: dict[str, list[object]] = {}
        for way in sorted(isolated, key=lambda way: way.address):
            element = [way.address, {"jump": {"target": way.chain}}] if verb == "add" else way.address
            by_map.setdefault(_MAPS[way.direction, way.version], []).append(element)
        return [self._elements(verb, name, elements) for name, elements in by_map.items()]

    def _elements(self, verb: str, name: str, elements: Iterable[object]) -> Json:
        return {verb: {"element": {**self._named(name), "elem": list(elements)}}}

    def _rule(self, chain: str, comment: str, expressions: list[Json]) -> Json:
        return add_rule("inet", self._table, chain, comment, expressions)

    def _chain(self, verb: str, name: str) -> Json:
        return {verb: {"chain": self._named(name)}}

    def _named(self, name: str) -> Json:
        return {"family": "inet", "table": self._table, "name": name}


def _is_ours(chain: str) -> bool:
    return chain == BASE or chain.startswith(PREFIX)


def _base_rules() -> list[tuple[str, list[Json]]]:
    """The rules of the base chain, each with its comment, by which it is known."""
    rules: list[tuple[str, list[Json]]] = [
        (
            "fairway: what belongs to an allowed connection",
            [match({"ct": {"key": "state"}}, {"set": ["established", "related"]}), ACCEPT],
        )
    ]
    for direction, which, words in (
        (Direction.EGRESS, "saddr", "fairway: what a pod's policies let it send"),
        (Direction.INGRESS, "daddr", "fairway: what a pod's policies let it get"),
    ):
        for version in (4, 6):
            key = address(version, which)
            choice = {"vmap": {"key": key, "data": f"@{_MAPS[direction, version]}"}}
            rules.append((f"{words}, IPv{version}", [choice]))
    return rules


def _passing(line: RuleLine, direction: Direction) -> list[Json]:
    """The expressions of a rule that lets pass what `line` says, the peer being the other side of the pod."""
    which = "saddr" if direction is Direction.INGRESS else "daddr"
    expressions: list[Json] = []
    if line.set_name:
        key = address(line.version, which)
        if line.with_port:
            key = {"concat": [key, meta("l4proto"), field("th", "dport")]}
        expressions.append(match(key, f"@{line.set_name}"))
    if line.ports:
        ranges: list[object] = [first if first == last else {"range": [first, last]} for first, last in line.ports]
        port = field(line.protocol, "dport")
        expressions.append(match(port, ranges[0] if len(ranges) == 1 else {"set": ranges}))
    elif line.protocol:
        expressions.append(match(meta("l4proto"), line.protocol))
    return [*expressions, {"return": None}]


def _declared(kind: SetKind) -> Json:
    addresses = _TYPES[kind.version]
    if kind.with_port:
        return {"type": [addresses, "inet_proto", "inet_service"]}
    return {"type": addresses, "flags": ["interval"]} if kind.networks else {"type": addresses}


def _written(element: Element) -> object:
    if isinstance(element, tuple):
        return {"concat": list(element)}
    first, slash, length = element.partition("/")
    return network(first, int(length)) if slash else first
