"""The spec of a NetworkPolicy (networking.k8s.io/v1) as values."""

from __future__ import annotations

from fairway.net.model.facts import IPNetwork
from fairway.net.model.pod import parse_network
from fairway.net.model.policy import (
    BlockPeer,
    NamedPort,
    Operator,
    Peer,
    PodPeer,
    Policy,
    Ports,
    Requirement,
    Rule,
    Selector,
)
from fairway.net.policy.fields import Field, labels, transport

_TYPES = ("Ingress", "Egress")


def policy(namespace: str, name: str, spec: Field) -> Policy:
    """A policy. Without `policyTypes` it isolates for ingress, and for egress if it has a rule of that."""
    spec.only(("podSelector", "policyTypes", "ingress", "egress"))
    types = [kind.text() for kind in spec.list("policyTypes")]
    for number, kind in enumerate(types):
        if kind not in _TYPES:
            raise spec.list("policyTypes")[number].problem(f"expected Ingress or Egress, found {kind!r}")
    if not types:
        types = ["Ingress", "Egress"] if spec.list("egress") else ["Ingress"]
    return Policy(
        namespace,
        name,
        selector(spec["podSelector"]),
        ingress=_rules(spec, "ingress", "from") if "Ingress" in types else None,
        egress=_rules(spec, "egress", "to") if "Egress" in types else None,
    )


def selector(field: Field) -> Selector:
    """A LabelSelector; an empty one selects everything."""
    field.only(("matchLabels", "matchExpressions"))
    requirements = {
        Requirement(key, Operator.IN, frozenset({value})) for key, value in labels(field["matchLabels"]).items()
    }
    requirements |= {_requirement(expression) for expression in field.list("matchExpressions")}
    return Selector(frozenset(requirements))


def _requirement(expression: Field) -> Requirement:
    expression.only(("key", "operator", "values"))
    name = expression.required("operator").text()
    if name not in [operator.value for operator in Operator]:
        known = ", ".join(operator.value for operator in Operator)
        raise expression["operator"].problem(f"expected one of {known}; found {name!r}")
    operator = Operator(name)
    values = frozenset(value.text() for value in expression.list("values"))
    if operator in (Operator.IN, Operator.NOT_IN) and not values:
        raise expression["values"].problem(f"{name} needs values")
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and values:
        raise expression["values"].problem(f"{name} takes no values")
    return Requirement(expression.required("key").text(), operator, values)


def _rules(spec: Field, direction: str, peers: str) -> tuple[Rule, ...]:
    rules = []
    for rule in spec.list(direction):
        rule.only((peers, "ports"))
        rules.append(
            Rule(
                tuple(_peer(peer) for peer in rule.list(peers)),
                tuple(_port(port) for port in rule.list("ports")),
            )
        )
    return tuple(rules)


def _peer(peer: Field) -> Peer:
    peer.only(("podSelector", "namespaceSelector", "ipBlock"))
    pods, namespaces, block = peer["podSelector"], peer["namespaceSelector"], peer["ipBlock"]
    if block:
        if pods or namespaces:
            raise block.problem("cannot stand beside podSelector or namespaceSelector")
        return _block(block)
    if not pods and not namespaces:
        raise peer.problem("expected podSelector, namespaceSelector or ipBlock")
    return PodPeer(selector(pods), selector(namespaces) if namespaces else None)


def _block(block: Field) -> BlockPeer:
    block.only(("cidr", "except"))
    network = _network(block.required("cidr"))
    exceptions = set()
    for place in block.list("except"):
        exception = _network(place)
        if exception.version != network.version or not exception.subnet_of(network):  # type: ignore[arg-type]
            raise place.problem(f"{exception} is not inside {network}")
        exceptions.add(exception)
    return BlockPeer(network, frozenset(exceptions))


def _network(field: Field) -> IPNetwork:
    return parse_network(field.text(), field.where)


def _port(port: Field) -> Ports | NamedPort:
    port.only(("protocol", "port", "endPort"))
    protocol = transport(port["protocol"])
    number, end = port["port"], port["endPort"]
    if not number:
        if end:
            raise end.problem("needs a port beside it")
        return Ports(protocol)
    if isinstance(number.value, str):
        if end:
            raise end.problem("cannot stand beside a port's name")
        return NamedPort(protocol, number.value)
    first = number.port()
    last = end.port() if end else first
    if last < first:
        raise end.problem(f"{last} is smaller than port {first}")
    return Ports(protocol, first, last)
