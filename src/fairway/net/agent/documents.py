"""Pods, pools, routes and what differs, as JSON documents: the same from an agent and without one."""

from __future__ import annotations

from typing import Any

from fairway.net.host import Host
from fairway.net.host.policies import Key
from fairway.net.model import differences
from fairway.net.model.facts import ForeignChain
from fairway.net.model.operations import Failure, Operation
from fairway.net.model.pod import GATEWAYS, Pod, StaticRoute
from fairway.net.model.policy import Labels, Policy
from fairway.net.model.pool import Pool, PoolUse
from fairway.net.policy import Documents

Json = dict[str, Any]


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


def route_document(route: StaticRoute) -> Json:
    """A route written by hand."""
    return {"destination": str(route.destination), "via": str(route.gateway)}


def policy_key_document(key: Key) -> Json:
    """A document of network policy, by what it is called."""
    return dict(zip(("kind", "namespace", "name"), key, strict=True))


def policy_documents(documents: Documents) -> list[Json]:
    """All documents that are kept, each with a word on what it says."""
    rows: list[tuple[str, ...]] = []
    rows += [("NetworkPolicy", *key, _directions(policy)) for key, policy in documents.policies.items()]
    rows += [("Namespace", "", name, _labels(labels)) for name, labels in documents.namespaces.items()]
    rows += [("Pod", *key, _labels(endpoint.labels)) for key, endpoint in documents.endpoints.items()]
    return [dict(zip(("kind", "namespace", "name", "about"), row, strict=True)) for row in rows]


def _directions(policy: Policy) -> str:
    rules = (("ingress", policy.ingress), ("egress", policy.egress))
    counts = [(word, len(found)) for word, found in rules if found is not None]
    return ", ".join(f"{word}: {count} {'rule' if count == 1 else 'rules'}" for word, count in counts)


def _labels(labels: Labels) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())


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
