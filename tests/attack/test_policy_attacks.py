"""Documents of policies that are made to harm whoever reads them."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Any

import pytest
from quic_attacker import bounded

from fairway.net.model.errors import UsageError
from fairway.net.model.policy import BlockPeer
from fairway.net.policy import parse_documents, read_documents
from fairway.net.policy.peers import network_sets

LAUGHS = "".join(f"  {this}: &{this} [{', '.join([f'*{before}'] * 9)}]\n" for before, this in pairwise("abcdefghijkl"))
BOMBS = {
    "a billion laughs": f"kind: Pod\nmetadata:\n  a: &a [lol, lol]\n{LAUGHS}",
    "a value inside itself": "kind: Pod\nmetadata: {name: x, annotations: &a {a: *a}}\n",
    "a long text again and again": f"kind: Pod\nmetadata:\n  a: &a {'x' * 100_000}\n  b: [{'*a, ' * 1_000}]\n",
}


def policy(**metadata: Any) -> str:
    spec = {"podSelector": {}}
    return json.dumps(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    )


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_bomb_of_aliases_is_refused_before_it_is_written_out(text: str) -> None:
    with (
        bounded(steps=30_000_000, megabytes=1.0, at_once=30.0),
        pytest.raises(UsageError, match="with its aliases written out"),
    ):
        list(parse_documents(text, "bomb.yaml"))


def test_aliases_that_repeat_a_little_are_taken() -> None:
    text = "{kind: Pod, metadata: {name: a, labels: &l {app: web}, annotations: {x: &t y, z: *t, l: *l}}}"
    assert len(read_documents(text, "fine.yaml").endpoints) == 1


NAMES = ["", "web\x00", "web\nadd rule", '"', "\u00e9" * 60, "x" * 254, "../etc", "Web", "-web", "a b", "a/b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_policys_name_that_the_kernels_comments_cannot_bear_is_refused(name: str) -> None:
    for metadata in ({"name": name}, {"name": "web", "namespace": name}):
        with pytest.raises(UsageError, match=r"metadata\.name"):
            read_documents(policy(**metadata), "odd.yaml")


@pytest.mark.parametrize("network", ["10.0.0.0/8", "2001:db8::/32"])
def test_thousands_of_exceptions_cost_what_they_are(network: str) -> None:
    whole = ip_network(network)
    exceptions = frozenset(ip_network(whole[n * 1_000 + 77]) for n in range(3_000))
    with bounded(steps=30_000_000, megabytes=20.0):
        ((_, (_, elements)),) = network_sets([BlockPeer(whole, exceptions)]).items()
    left = [ip_network(str(element)) for element in elements]
    assert sum(part.num_addresses for part in left) == whole.num_addresses - 3_000
    assert not any(ip_address(whole[77]) in part for part in left)
