"""What NetworkPolicy documents allow, worked out from the documents themselves, straight from the API's description.

It shares nothing with Fairway's reader and compiler: plain dictionaries in, a truth value out, a pair at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any


@dataclass(frozen=True)
class Party:
    """Somebody who sends or receives. Without a namespace it is no pod."""

    name: str
    address: str
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    ports: dict[tuple[str, str], int] = field(default_factory=dict, hash=False)  # (protocol, name): number


@dataclass(frozen=True)
class World:
    documents: list[dict[str, Any]]
    namespaces: dict[str, dict[str, str]]

    def allows(self, source: Party, destination: Party, protocol: str, port: int) -> bool:
        """Whether a new connection from `source` to a port of `destination` passes; protocol as in documents."""
        leaves = self._passes(source, destination, "Egress", "to", destination, protocol, port)
        arrives = self._passes(destination, source, "Ingress", "from", destination, protocol, port)
        return leaves and arrives

    def _passes(self, pod: Party, peer: Party, kind: str, word: str, receiver: Party, protocol: str, port: int) -> bool:
        if not pod.namespace:
            return True
        isolated = False
        for document in self.documents:
            if document["metadata"].get("namespace", "default") != pod.namespace:
                continue
            spec = document["spec"]
            if not selects(spec.get("podSelector", {}), pod.labels):
                continue
            kinds = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
            if kind not in kinds:
                continue
            isolated = True
            for rule in spec.get(kind.lower()) or []:
                peers, ports = rule.get(word) or [], rule.get("ports") or []
                if peers and not any(self._is_peer(each, pod.namespace, peer) for each in peers):
                    continue
                if ports and not any(_is_port(each, receiver, protocol, port) for each in ports):
                    continue
                return True
        return not isolated

    def _is_peer(self, described: dict[str, Any], namespace: str, party: Party) -> bool:
        if "ipBlock" in described:
            address, block = ip_address(party.address), described["ipBlock"]
            inside = address in ip_network(block["cidr"])
            return inside and not any(address in ip_network(each) for each in block.get("except", []))
        if not party.namespace:
            return False
        if "namespaceSelector" in described:
            labels = {**self.namespaces.get(party.namespace, {}), "kubernetes.io/metadata.name": party.namespace}
            if not selects(described["namespaceSelector"], labels):
                return False
        elif party.namespace != namespace:
            return False
        return selects(described.get("podSelector", {}), party.labels)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """A LabelSelector's verdict."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or []:
        value, values = labels.get(expression["key"]), expression.get("values") or []
        verdict = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[expression["operator"]]
        if not verdict:
            return False
    return True


def _is_port(described: dict[str, Any], receiver: Party, protocol: str, port: int) -> bool:
    if described.get("protocol", "TCP") != protocol:
        return False
    wanted = described.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return receiver.ports.get((protocol, wanted)) == port
    return bool(wanted <= port <= described.get("endPort", wanted))
