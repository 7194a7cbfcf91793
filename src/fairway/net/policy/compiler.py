"""Policies and pods in, the table and its changes out. What a pod's coming costs does not grow with the pods.

Three things are kept: which groups of pods the policies speak of, who is in them, and by which chain each address of a
pod here goes. Pods of the same labels are judged once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fairway.net.model.policy import Direction, Endpoint, Labels, Policy
from fairway.net.model.policy_table import Element, Isolated, PolicyChain, PolicyDelta, PolicyTable, SetKind
from fairway.net.policy.chains import chain_for, groups_of, networks_of
from fairway.net.policy.peers import Group, namespace_labels, set_kind, set_name

_JUDGED_KEPT = 16_384
"""Judgements kept: labels that no pod bears any more are not asked for again."""

_Signature = tuple[str, frozenset[tuple[str, str]]]  # a pod's namespace and labels: all that selectors see


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What all pods of one signature have in common."""

    groups: tuple[Group, ...]
    policies: Mapping[Direction, tuple[Policy, ...]]  # a direction in which they are not isolated is not there


class Compiler:
    """For one host, and one state of policies and namespaces: another state is another compiler."""

    def __init__(self, policies: Iterable[Policy] = (), namespaces: Mapping[str, Labels] | None = None) -> None:
        self._policies = sorted(policies, key=lambda policy: (policy.namespace, policy.name))
        self._namespaces = dict(namespaces or {})
        self._groups = {group.stem: group for policy in self._policies for group in groups_of(policy)}
        self._networks = {name: found for policy in self._policies for name, found in networks_of(policy).items()}
        self._members: dict[str, Counter[Element]] = {
            set_name(stem, version): Counter() for stem in self._groups for version in (4, 6)
        }
        self._endpoints: dict[tuple[str, str, str], Endpoint] = {}
        self._chains: dict[str, PolicyChain] = {}
        self._users: Counter[str] = Counter()  # how many addresses go by each chain
        self._judged: dict[_Signature, _Judgement] = {}

    def put(self, endpoint: Endpoint) -> PolicyDelta:
        """A pod is there, or is not any more as it was before."""
        return self._change(self._endpoints.get(endpoint.key), endpoint)

    def remove(self, key: tuple[str, str, str]) -> PolicyDelta:
        """The pod is gone; one that was not there changes nothing."""
        return self._change(self._endpoints.get(key), None)

    def endpoints(self) -> list[Endpoint]:
        """The pods that it knows."""
        return list(self._endpoints.values())

    def policies_of(self, endpoint: Endpoint, direction: Direction) -> tuple[Policy, ...]:
        """The policies that isolate a pod in a direction; none: it is open."""
        return self._judge(endpoint).policies.get(direction, ())

    def table(self) -> PolicyTable:
        """All of it."""
        if not self._policies:
            return PolicyTable()
        sets: dict[str, tuple[SetKind, frozenset[Element]]] = dict(self._networks)
        for stem, group in self._groups.items():
            for version in (4, 6):
                name = set_name(stem, version)
                sets[name] = (set_kind(group, version), frozenset(self._members[name]))
        isolated = {way for endpoint in self._endpoints.values() for way, _ in self._ways(endpoint)}
        return PolicyTable(True, sets, dict(self._chains), frozenset(isolated))

    def _change(self, before: Endpoint | None, after: Endpoint | None) -> PolicyDelta:
        delta = PolicyDelta()
        if before == after:
            return delta
        # First what is new, so that nothing that stays is taken away and brought again.
        if after is not None:
            self._enter(after, delta)
            self._endpoints[after.key] = after
        if before is not None:
            self._leave(before, delta)
            if after is None:
                del self._endpoints[before.key]
        unchanged = delta.isolate & delta.release
        delta.isolate -= unchanged
        delta.release -= unchanged
        return delta

    def _enter(self, endpoint: Endpoint, delta: PolicyDelta) -> None:
        for name, element in self._memberships(endpoint):
            self._members[name][element] += 1
            if self._members[name][element] == 1:
                delta.add.setdefault(name, set()).add(element)
        for way, chain in self._ways(endpoint):
            if not self._users[chain.name]:
                self._chains[chain.name] = chain
                delta.new_chains.append(chain)
            self._users[chain.name] += 1
            delta.isolate.add(way)

    def _leave(self, endpoint: Endpoint, delta: PolicyDelta) -> None:
        for name, element in self._memberships(endpoint):
            self._members[name][element] -= 1
            if not self._members[name][element]:
                del self._members[name][element]
                delta.remove.setdefault(name, set()).add(element)
        for way, chain in self._ways(endpoint):
            self._users[chain.name] -= 1
            if not self._users[chain.name]:
                del self._users[chain.name], self._chains[chain.name]
                delta.old_chains.add(chain.name)
            delta.release.add(way)

    def _memberships(self, endpoint: Endpoint) -> Iterable[tuple[str, Element]]:
        for group in self._judge(endpoint).groups:
            for version, element in group.elements(endpoint):
                yield set_name(group.stem, version), element

    def _ways(self, endpoint: Endpoint) -> Iterable[tuple[Isolated, PolicyChain]]:
        """By which chains a pod's packets go; none for a pod of another host, which that one guards."""
        if not endpoint.local:
            return
        for direction, policies in self._judge(endpoint).policies.items():
            chain = chain_for(policies, direction, endpoint)
            for address in endpoint.addresses:
                yield Isolated(direction, str(address), address.version, chain.name), chain

    def _judge(self, endpoint: Endpoint) -> _Judgement:
        signature = (endpoint.namespace, frozenset(endpoint.labels.items()))
        found = self._judged.get(signature)
        if found is None:
            if len(self._judged) >= _JUDGED_KEPT:
                self._judged.clear()
            around = namespace_labels(self._namespaces, endpoint.namespace)
            groups = (g for g in self._groups.values() if g.holds(endpoint.namespace, endpoint.labels, around))
            found = self._judged[signature] = _Judgement(tuple(groups), self._isolating(endpoint))
        return found

    def _isolating(self, endpoint: Endpoint) -> dict[Direction, tuple[Policy, ...]]:
        selecting = [
            policy
            for policy in self._policies
            if policy.namespace == endpoint.namespace and policy.pods.selects(endpoint.labels)
        ]
        isolating = {
            direction: tuple(policy for policy in selecting if policy.rules(direction) is not None)
            for direction in Direction
        }
        return {direction: policies for direction, policies in isolating.items() if policies}
