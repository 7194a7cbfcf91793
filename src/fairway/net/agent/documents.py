"""Pods, pools, routes and what differs, as JSON documents: the same from an agent and without one."""

from __future__ import annotations

from collections.abc import Collection

from fairway.net.agent.protocol import Json
from fairway.net.host import Host
from fairway.net.host.policies import Key
from fairway.net.model import differences
from fairway.net.model.facts import ForeignChain, IPAddress, IPNetwork
from fairway.net.model.operations import Failure, Operation
from fairway.net.model.pod import GATEWAYS, LearnedRoute, Pod, StaticRoute
from fairway.net.model.policy import Direction
from fairway.net.model.pool import Pool, PoolUse
from fairway.net.policy import Documents


def pod_document(host: Host, pod: Pod) -> Json:
    """A pod: whose it is, where its ends are."""
    namespace = host.identity.site(pod).namespace
    versions = {address.version for address in pod.addresses}
    document: Json = {
        "name": pod.name,
        "addresses": [str(address) for address in pod.addresses],
        "gateways": [str(gateway) for gateway in GATEWAYS if gateway.version in versions],
        "mtu": pod.mtu,
        "interface": pod.link,
        "inside": pod.interface,
        "namespace": namespace if pod.attachment is None else "",
        "path": f"/run/netns/{namespace}" if pod.attachment is None else namespace,
        "source": "fairway" if pod.attachment is None else "runtime",
    }
    if pod.attachment is not None:
        known = pod.attachment.kubernetes
        document["attachment"] = {
            "container": pod.attachment.container,
            "network": pod.attachment.network,
            "mac": pod.mac,
            "default_route": pod.default_route,
            "kubernetes": {
                "namespace": known.namespace,
                "pod": known.pod,
                "labels": dict(known.labels),
                "annotations": dict(known.annotations),
            },
        }
    return document


def pool_document(pool: Pool) -> Json:
    """A pool, and whom it is for."""
    return {
        "name": pool.title,
        "network": str(pool.block),
        "of": str(pool.whole or ""),
        "namespaces": sorted(pool.kubernetes_namespaces),
        "networks": sorted(pool.networks),
        "cooldown_s": pool.cooldown_s,
        "masquerade": pool.masquerade,
    }


def pool_use_document(use: PoolUse) -> Json:
    """A pool, and how full it is."""
    return pool_document(use.pool) | {"taken": use.taken, "capacity": use.capacity}


def learned_document(route: LearnedRoute, present: Collection[tuple[IPNetwork, IPAddress]]) -> Json:
    """A route that another node told, as far as it is known without an agent."""
    return {
        "prefix": str(route.destination),
        "node": route.node,
        "via": str(route.gateway),
        "best": True,
        "in_kernel": (route.destination, route.gateway) in present,
    }


def route_document(route: StaticRoute) -> Json:
    """A route written by hand."""
    return {"destination": str(route.destination), "via": str(route.gateway)}


def document_name(key: Key) -> Json:
    """Which document of network policy."""
    return dict(zip(("kind", "namespace", "name"), key, strict=True))


def policy_documents(documents: Documents) -> list[Json]:
    """What is kept of network policy: a policy with the number of its rules by direction, the rest with its labels."""
    found = [
        document_name(("NetworkPolicy", *key))
        | {"rules": {d.value: len(rules) for d in Direction if (rules := policy.rules(d)) is not None}}
        for key, policy in documents.policies.items()
    ]
    found += [document_name(("Namespace", "", n)) | {"labels": dict(each)} for n, each in documents.namespaces.items()]
    endpoints = documents.endpoints.items()
    return found + [document_name(("Pod", *key)) | {"labels": dict(each.labels)} for key, each in endpoints]


def chain_document(chain: ForeignChain) -> Json:
    """Another program's chain that drops."""
    return {
        "engine": chain.engine,
        "family": chain.family,
        "table": chain.table,
        "chain": chain.chain,
        "reason": chain.reason,
    }


def drift_document(found: list[Operation], failures: list[Failure], *, repaired: bool) -> Json:
    """What differs, and what of it could not be mended."""
    return {
        "drift": [differences.document(operation) for operation in found],
        "repaired": repaired and not failures,
        "failures": [
            differences.document(failure.operation) | {"message": failure.error.message, "mend": failure.error.mend}
            for failure in failures
        ],
    }
