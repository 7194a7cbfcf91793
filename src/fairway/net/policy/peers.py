"""The peers of a rule as sets of addresses: groups of pods, which change as pods come and go, and networks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import collapse_addresses, summarize_address_range

from fairway.net.model.facts import IPNetwork
from fairway.net.model.policy import (
    NAMESPACE_NAME,
    BlockPeer,
    Endpoint,
    Labels,
    NamedPort,
    PodPeer,
    Requirement,
    Selector,
)
from fairway.net.model.policy_table import Element, SetKind

PREFIX = "policy-"
"""What every set, map and chain of ours begins with, but for the chain that all packets pass: `policies`."""


@dataclass(frozen=True, slots=True)
class Group:
    """Pods that any of `peers` selects, as a policy in `namespace` means it; without peers, all pods.

    With `port`, only those that have a port of that name, and with them its number.
    """

    namespace: str
    peers: frozenset[PodPeer]
    port: NamedPort | None = None

    @property
    def stem(self) -> str:
        """The name of its sets, but for the version of IP: the same for the same pods, whoever asks for them."""
        # The namespace matters only where a peer means the policy's own.
        namespace = self.namespace if any(peer.namespaces is None for peer in self.peers) else ""
        words = [namespace, *sorted(map(_words_of_peer, self.peers))]
        if self.port is not None:
            words += [self.port.protocol, self.port.name]
        return f"{PREFIX}{'ports' if self.port else 'pods'}-{digest(words)}"

    def holds(self, namespace: str, labels: Labels, namespace_labels: Labels) -> bool:
        """Whether a pod of that namespace with those labels is one of them."""
        return not self.peers or any(
            peer.pods.selects(labels)
            and (namespace == self.namespace if peer.namespaces is None else peer.namespaces.selects(namespace_labels))
            for peer in self.peers
        )

    def elements(self, endpoint: Endpoint) -> Iterator[tuple[int, Element]]:
        """What `endpoint`, which is one of them, is in the sets: with each, the version of IP of its set."""
        for address in endpoint.addresses:
            if self.port is None:
                yield address.version, str(address)
                continue
            for port in endpoint.ports:
                if (port.name, port.protocol) == (self.port.name, self.port.protocol):
                    yield address.version, (str(address), port.protocol, port.number)


def set_name(stem: str, version: int) -> str:
    """The name of one of a group's two sets."""
    return f"{stem}-{version}"


def set_kind(group: Group, version: int) -> SetKind:
    """What that set holds."""
    return SetKind(version, with_port=group.port is not None)


def network_sets(blocks: Iterable[BlockPeer]) -> dict[str, tuple[SetKind, frozenset[Element]]]:
    """The sets of the networks of a rule: one for each version of IP that there is a block of."""
    sets = {}
    for version in (4, 6):
        networks = [part for block in blocks if block.network.version == version for part in _parts(block)]
        if networks:
            # All are of one version, which the types do not say.
            elements = frozenset(map(str, collapse_addresses(networks)))  # type: ignore[type-var]
            name = set_name(f"{PREFIX}nets-{digest(sorted(elements))}", version)
            sets[name] = (SetKind(version, networks=True), frozenset[Element](elements))
    return sets


def namespace_labels(namespaces: Mapping[str, Labels], name: str) -> dict[str, str]:
    """The labels of a namespace, known or not: its name is one of them."""
    return {**namespaces.get(name, {}), NAMESPACE_NAME: name}


def digest(words: Iterable[str]) -> str:
    """Twelve hexadecimal digits for a list of words."""
    whole = hashlib.sha256()
    for word in words:
        whole.update(f"{len(word)}:{word}".encode())
    return whole.hexdigest()[:12]


def _parts(block: BlockPeer) -> list[IPNetwork]:
    """The network less its exceptions."""
    parts: list[IPNetwork] = []
    start, end = int(block.network.network_address), int(block.network.broadcast_address)
    for exception in sorted(block.exceptions, key=lambda each: int(each.network_address)):
        if exception.version == block.network.version:
            parts += _between(block.network, start, min(int(exception.network_address) - 1, end))
            start = max(start, int(exception.broadcast_address) + 1)
    return [*parts, *_between(block.network, start, end)]


def _between(network: IPNetwork, first: int, last: int) -> Iterable[IPNetwork]:
    """The networks that make up the addresses from `first` to `last`, of the IP version of `network`."""
    if first > last:
        return ()
    address = type(network.network_address)
    return summarize_address_range(address(first), address(last))


def _words_of_peer(peer: PodPeer) -> str:
    where = "own" if peer.namespaces is None else f"in {_words_of(peer.namespaces)}"
    return f"{where} {_words_of(peer.pods)}"


def _words_of(selector: Selector) -> str:
    return repr(sorted(map(_words_of_requirement, selector.requirements)))


def _words_of_requirement(requirement: Requirement) -> str:
    return repr((requirement.key, requirement.operator.value, sorted(requirement.values)))
