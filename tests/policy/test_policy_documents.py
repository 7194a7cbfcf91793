"""Documents of policies: what is wrong is said with file, document and field; nothing is guessed."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from fairway.net.model.errors import UsageError
from fairway.net.model.policy import ContainerPort, NamedPort, Ports
from fairway.net.policy import parse_documents, read_documents


def policy(spec: Any, **others: Any) -> str:
    document = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": {"podSelector": {}, **spec},
        **others,
    }
    return json.dumps(document)


def ingress(rule: Any) -> str:
    return policy({"ingress": [rule]})


WRONG = [
    ("kind: [", "x.yaml:2: not valid YAML"),
    ("- 1", "x.yaml: document 1: expected a mapping, found a list"),
    ("kind: Service", "x.yaml: document 1: kind: expected one of NetworkPolicy, Namespace, Pod, List; found 'Service'"),
    (policy({}, apiVersion="v1"), "apiVersion: expected networking.k8s.io/v1, found 'v1'"),
    (policy({}, metadata={}), "metadata.name: is missing"),
    (policy({"ingres": []}), "spec.ingres: unknown; known are podSelector, policyTypes, ingress, egress"),
    (policy({"policyTypes": ["Both"]}), "spec.policyTypes[0]: expected Ingress or Egress, found 'Both'"),
    (policy({"ingress": {}}), "spec.ingress: expected a list, found a mapping"),
    (ingress({"form": []}), "spec.ingress[0].form: unknown; known are from, ports"),
    (ingress({"from": [{}]}), "spec.ingress[0].from[0]: expected podSelector, namespaceSelector or ipBlock"),
    (ingress({"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}), "from[0].ipBlock.cidr: 10.0.0.1/8 has host bits set"),
    (
        ingress({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}),
        "ipBlock.except[0]: 11.0.0.0/8 is not inside 10.0.0.0/8",
    ),
    (
        ingress({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}),
        "ipBlock: cannot stand beside podSelector or namespaceSelector",
    ),
    (ingress({"ports": [{"port": 0}]}), "ports[0].port: expected a port number from 1 to 65535, found 0"),
    (ingress({"ports": [{"port": 90, "endPort": 80}]}), "ports[0].endPort: 80 is smaller than port 90"),
    (ingress({"ports": [{"port": "http", "endPort": 80}]}), "endPort: cannot stand beside a port's name"),
    (ingress({"ports": [{"endPort": 80}]}), "endPort: needs a port beside it"),
    (ingress({"ports": [{"protocol": "ICMP"}]}), "ports[0].protocol: expected TCP, UDP or SCTP, found 'ICMP'"),
    (policy({"podSelector": {"matchLabels": {"a": 1}}}), "podSelector.matchLabels.a: expected text, found the value 1"),
    (
        policy({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Equals"}]}}),
        "matchExpressions[0].operator: expected one of In, NotIn, Exists, DoesNotExist; found 'Equals'",
    ),
    (
        policy({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
        "matchExpressions[0].values: In needs values",
    ),
    (
        policy({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
        "matchExpressions[0].values: Exists takes no values",
    ),
    (
        f"{policy({})}\n---\n{policy({})}",
        "document 2: metadata.name: a document of this kind and name stands before it",
    ),
]


@pytest.mark.parametrize(("text", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_documents(text, "x.yaml")
    assert words in caught.value.message
    assert caught.value.message.startswith("x.yaml")


def test_directions_follow_from_the_rules_where_they_are_not_given() -> None:
    def directions(spec: Any) -> tuple[bool, bool]:
        (found,) = read_documents(policy(spec), "x").policies.values()
        return found.ingress is not None, found.egress is not None

    assert directions({}) == (True, False)
    assert directions({"egress": [{}]}) == (True, True)
    assert directions({"egress": []}) == (True, False)
    assert directions({"policyTypes": ["Egress"], "ingress": [{}]}) == (False, True)


def test_ports_are_numbers_ranges_names_and_whole_protocols() -> None:
    listed = [{"port": 80}, {"port": 1, "endPort": 9, "protocol": "UDP"}, {"port": "http"}, {"protocol": "SCTP"}]
    (found,) = read_documents(ingress({"ports": listed}), "x").policies.values()
    assert found.ingress is not None
    assert found.ingress[0].ports == (Ports("tcp", 80, 80), Ports("udp", 1, 9), NamedPort("tcp", "http"), Ports("sctp"))


def test_lists_are_taken_apart_and_empty_documents_passed_over() -> None:
    text = f"---\n---\n{json.dumps({'kind': 'NetworkPolicyList', 'items': [json.loads(policy({}))]})}\n"
    assert len(list(parse_documents(text, "x"))) == 1
    assert list(read_documents(text, "x").policies) == [("default", "web")]


def test_a_pod_is_known_by_labels_named_ports_and_addresses() -> None:
    text = """
kind: Pod
metadata: {name: db, namespace: prod, labels: {app: db}}
spec: {containers: [{ports: [{name: sql, containerPort: 5432}, {containerPort: 1}]}, {}]}
status: {podIPs: [{ip: 10.0.0.5}, {ip: "fd00::5"}]}
"""
    (found,) = read_documents(text, "x").endpoints.values()
    assert found.addresses == (ip_address("10.0.0.5"), ip_address("fd00::5"))
    assert (found.labels, found.ports, found.local) == ({"app": "db"}, (ContainerPort("sql", "tcp", 5432),), False)


def test_documents_nested_without_end_are_an_error() -> None:
    with pytest.raises(UsageError):
        read_documents("[" * 100_000, "x.yaml")
