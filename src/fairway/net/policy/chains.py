"""A pod's policies of one direction as one chain of rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fairway.net.model.policy import BlockPeer, Direction, Endpoint, NamedPort, PodPeer, Policy, Ports, Rule
from fairway.net.model.policy_table import Element, PolicyChain, RuleLine, SetKind
from fairway.net.policy.peers import PREFIX, Group, digest, network_sets, set_name

_LONGEST_COMMENT = 127  # NFTNL_UDATA_COMMENT_MAXLEN with its final NUL: nftables' own bound
_ANY_PORT: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the peer's address must be found: in a set, or anywhere."""

    version: int = 0
    set_name: str = ""


def chain_for(policies: Sequence[Policy], direction: Direction, endpoint: Endpoint) -> PolicyChain:
    """The chain that `endpoint`'s packets of that direction go by, where these policies isolate it."""
    lines: dict[tuple[object, ...], RuleLine] = {}
    for policy in policies:
        for number, rule in enumerate(policy.rules(direction) or (), 1):
            for line in _lines(policy, direction, rule, endpoint):
                content = (line.version, line.set_name, line.protocol, line.ports)
                mark = digest(map(str, content))[:8]
                comment = _comment(f"{policy.namespace}/{policy.name}", f" {direction.value} {number} #{mark}")
                lines.setdefault(content, replace(line, comment=comment))
    # The policies' names belong to the content: a chain without a line is known by them.
    names = [f"{policy.namespace}/{policy.name}" for policy in policies]
    last = RuleLine(_comment(f"not allowed by {', '.join(names)}", f" #{digest(names)[:8]}"))
    kept = (*lines.values(), last)
    way = "in" if direction is Direction.INGRESS else "out"
    return PolicyChain(f"{PREFIX}{way}-{digest(line.comment for line in kept)}", direction, kept)


def groups_of(policy: Policy) -> Iterator[Group]:
    """The groups of pods that its rules speak of."""
    for direction in Direction:
        for rule in policy.rules(direction) or ():
            pods = _pods(rule)
            if pods:
                yield Group(policy.namespace, pods)
            if direction is Direction.EGRESS:
                for port in rule.ports:
                    if isinstance(port, NamedPort) and (pods or not rule.peers):
                        yield Group(policy.namespace, pods, port)


def networks_of(policy: Policy) -> dict[str, tuple[SetKind, frozenset[Element]]]:
    """The sets of networks that its rules speak of."""
    rules = [rule for direction in Direction for rule in policy.rules(direction) or ()]
    return {name: found for rule in rules for name, found in network_sets(_blocks(rule)).items()}


def _lines(policy: Policy, direction: Direction, rule: Rule, endpoint: Endpoint) -> Iterator[RuleLine]:
    sources = _sources(policy, rule)
    if not rule.ports:
        for source in sources:
            yield RuleLine("", source.version, source.set_name)
        return
    for protocol, ports in _numbers(rule, direction, endpoint).items():
        for source in sources:
            yield RuleLine("", source.version, source.set_name, protocol=protocol, ports=ports)
    if direction is Direction.EGRESS and (_pods(rule) or not rule.peers):
        for port in rule.ports:
            if isinstance(port, NamedPort):
                stem = Group(policy.namespace, _pods(rule), port).stem
                for version in (4, 6):
                    yield RuleLine("", version, set_name(stem, version), with_port=True)


def _sources(policy: Policy, rule: Rule) -> list[_Source]:
    if not rule.peers:
        return [_Source()]
    sources = []
    pods = _pods(rule)
    if pods:
        stem = Group(policy.namespace, pods).stem
        sources += [_Source(version, set_name(stem, version)) for version in (4, 6)]
    sources += [_Source(kind.version, name) for name, (kind, _) in network_sets(_blocks(rule)).items()]
    return sources


def _numbers(rule: Rule, direction: Direction, endpoint: Endpoint) -> dict[str, tuple[tuple[int, int], ...]]:
    """The ports by protocol, joined where they overlap; a name is what the receiving pod, `endpoint`, calls so."""
    found: dict[str, list[tuple[int, int]]] = {}
    whole: set[str] = set()
    for port in rule.ports:
        if isinstance(port, Ports):
            if port.first:
                found.setdefault(port.protocol, []).append((port.first, port.last))
            else:
                whole.add(port.protocol)
        elif direction is Direction.INGRESS:
            for own in endpoint.ports:
                if (own.name, own.protocol) == (port.name, port.protocol):
                    found.setdefault(port.protocol, []).append((own.number, own.number))
    numbers = {protocol: _joined(ranges) for protocol, ranges in found.items()}
    return numbers | dict.fromkeys(whole, _ANY_PORT)


def _joined(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def _pods(rule: Rule) -> frozenset[PodPeer]:
    return frozenset(peer for peer in rule.peers if isinstance(peer, PodPeer))


def _blocks(rule: Rule) -> list[BlockPeer]:
    return [peer for peer in rule.peers if isinstance(peer, BlockPeer)]


def _comment(words: str, rest: str) -> str:
    """`words` cut to what fits before `rest`, after our own mark."""
    start = "fairway: "
    room = _LONGEST_COMMENT - len(start) - len(rest)
    return f"{start}{words if len(words) <= room else words[: room - 3] + '...'}{rest}"
