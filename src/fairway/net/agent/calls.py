"""The calls: what may be asked of a host, whether an agent answers or the asking process itself.

Each takes the host and its arguments and returns a JSON document. They are done one at a time, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fairway.net.agent.arguments import Arguments
from fairway.net.agent.documents import (
    chain_document,
    document_name,
    drift_document,
    learned_document,
    pod_document,
    policy_documents,
    pool_document,
    pool_use_document,
    route_document,
)
from fairway.net.agent.protocol import Json, Progress
from fairway.net.host import Host
from fairway.net.host.moving import Arrival
from fairway.net.model.attachment import AttachRequest, Kubernetes
from fairway.net.model.errors import UsageError
from fairway.net.model.pod import StaticRoute, parse_address
from fairway.net.model.pool import DEFAULT_COOLDOWN_S, Pool

_LEAST_FREE = 1 << 20
"""Bytes of the state's disk without which it counts as full."""

DOCUMENTS_MAX = 1 << 19
"""Characters of policy documents in one call: what has more is asked for in several."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returns; who is to be told waits until the links of the pods in `ending` have ended."""

    document: Json
    ending: tuple[str, ...] = field(default=())


Call = Callable[[Host, Arguments, Progress], Answer]


def do(host: Host, call: str, arguments: Json, progress: Progress, calls: Mapping[str, Call]) -> Answer:
    """Do one of `calls`; errors are FairwayErrors."""
    function = calls.get(call)
    if function is None:
        raise UsageError(f"there is no call {call!r}", mend=f"there are: {', '.join(sorted(calls))}")
    return function(host, Arguments(arguments), progress)


def _attach(host: Host, arguments: Arguments, _: Progress) -> Answer:
    known = arguments.inner("kubernetes")
    request = AttachRequest(
        container=arguments.text("container"),
        namespace=arguments.text("namespace"),
        interface=arguments.text("interface", "eth0"),
        network=arguments.text("network", ""),
        addresses=tuple(arguments.addresses("addresses")),
        versions=tuple(arguments.numbers("versions")),
        pools=tuple(arguments.texts("pools")),
        sticky=arguments.text("sticky", ""),
        mac=arguments.text("mac", ""),
        mtu=arguments.number("mtu", most=65535),
        default_route=arguments.flag("default_route", default=True),
        kubernetes=Kubernetes(
            known.text("namespace", ""), known.text("pod", ""), known.mapping("labels"), known.mapping("annotations")
        ),
        config=arguments.text("config", ""),
    )
    known.finish()
    arguments.finish()
    return Answer({"pod": pod_document(host, host.attachments.add(request))})


def _detach(host: Host, arguments: Arguments, _: Progress) -> Answer:
    container, interface = arguments.text("container"), arguments.text("interface", "eth0")
    arguments.finish()
    found = host.attachments.remove(container, interface)
    return Answer({"detached": found}, (f"{container}/{interface}",) if found else ())


def _check_attachment(host: Host, arguments: Arguments, _: Progress) -> Answer:
    place = arguments.text("container"), arguments.text("interface", "eth0"), arguments.text("namespace", "")
    arguments.finish()
    return Answer(drift_document(host.attachments.check(*place), [], repaired=False))


def _collect(host: Host, arguments: Arguments, _: Progress) -> Answer:
    valid, network = arguments.pairs("valid"), arguments.text("network")
    arguments.finish()
    names = [pod.name for pod in host.attachments.collect(valid, network)]
    return Answer({"removed": names}, tuple(names))


def _add_pod(host: Host, arguments: Arguments, _: Progress) -> Answer:
    name, addresses, mtu = arguments.text("name"), arguments.addresses("addresses"), arguments.number("mtu", most=65535)
    pools, leave = arguments.texts("pools"), arguments.flag("leave_foreign_chains")
    arguments.finish()
    _check_foreign(host, leave)
    added = host.add_pod(name, addresses, mtu, pools=pools)
    return Answer({"pod": pod_document(host, added) | _foreign(host, leave)})


def _list_pods(host: Host, arguments: Arguments, _: Progress) -> Answer:
    arguments.finish()
    return Answer({"pods": [pod_document(host, pod) for pod in host.pods()]})


def _show_pod(host: Host, arguments: Arguments, _: Progress) -> Answer:
    name = arguments.text("name")
    arguments.finish()
    return Answer({"pod": pod_document(host, host.pod(name))})


def _take_in(host: Host, arguments: Arguments, _: Progress) -> Answer:
    """Of another host of this machine: a lab's node."""
    name = arguments.text("name")
    arrival = Arrival(
        arguments.text("namespace"),
        arguments.text("interface"),
        arguments.number("mtu", most=65535),
        tuple(arguments.addresses("addresses")),
    )
    arguments.finish()
    return Answer({"pod": pod_document(host, host.moving.take_in(name, arrival))})


def _let_go(host: Host, arguments: Arguments, _: Progress) -> Answer:
    name, keeps = arguments.text("name"), arguments.flag("keeps", default=True)
    arguments.finish()
    host.moving.let_go(name, keeps=keeps)
    return Answer({"gone": name}, (name,))


def _remove_pods(host: Host, arguments: Arguments, _: Progress) -> Answer:
    given, force = arguments.texts("names"), arguments.flag("force")
    arguments.finish()
    with host.store.lock():
        names = list(dict.fromkeys(host.pod(name).name for name in given))
        for name in names:
            host.remove_pod(name, force=force)
    return Answer({"removed": names}, tuple(names))


def _add_pool(host: Host, arguments: Arguments, _: Progress) -> Answer:
    whole = arguments.text("of", "")
    pool = Pool(
        arguments.network("network"),
        arguments.text("name", ""),
        arguments.network("of") if whole else None,
        frozenset(arguments.texts("namespaces")),
        frozenset(arguments.texts("networks")),
        arguments.number("cooldown_s", DEFAULT_COOLDOWN_S),
        arguments.flag("masquerade"),
    )
    arguments.finish()
    host.pools.add(pool)
    return Answer({"pool": pool_document(pool)})


def _list_pools(host: Host, arguments: Arguments, _: Progress) -> Answer:
    arguments.finish()
    return Answer({"pools": [pool_use_document(use) for use in host.pools.statistics()]})


def _remove_pool(host: Host, arguments: Arguments, _: Progress) -> Answer:
    network = arguments.network("network")
    arguments.finish()
    host.pools.remove(network)
    return Answer({"removed": str(network)})


def _add_route(host: Host, arguments: Arguments, _: Progress) -> Answer:
    route = StaticRoute(arguments.network("destination"), parse_address(arguments.text("via"), "via"))
    arguments.finish()
    host.routes.add(route)
    return Answer({"route": route_document(route)})


def _list_routes(host: Host, arguments: Arguments, _: Progress) -> Answer:
    arguments.finish()
    return Answer({"routes": [route_document(route) for route in host.routes.all()]})


def _remove_route(host: Host, arguments: Arguments, _: Progress) -> Answer:
    destination = arguments.network("destination")
    arguments.finish()
    host.routes.remove(destination)
    return Answer({"removed": str(destination)})


def _check(host: Host, arguments: Arguments, _: Progress) -> Answer:
    leave = arguments.flag("leave_foreign_chains")
    arguments.finish()
    _check_foreign(host, leave)
    return Answer(drift_document(host.check(), [], repaired=False) | _foreign(host, leave))


def _repair(host: Host, arguments: Arguments, progress: Progress) -> Answer:
    leave = arguments.flag("leave_foreign_chains")
    arguments.finish()
    _check_foreign(host, leave)
    found, failures = host.repair(progress)
    return Answer(drift_document(found, failures, repaired=True) | _foreign(host, leave))


def _own_addresses(host: Host, arguments: Arguments, _: Progress) -> Answer:
    arguments.finish()
    return Answer({"addresses": [str(address) for address in host.addresses()]})


def _list_learned(host: Host, arguments: Arguments, _: Progress) -> Answer:
    """What was learned last; who announces what now, only an agent knows."""
    arguments.finish()
    present = host.learned.in_kernel()
    return Answer({"routes": [learned_document(route, present) for route in host.learned.all()]})


def _list_peers(host: Host, arguments: Arguments, _: Progress) -> Answer:
    raise UsageError("no agent runs here, and only an agent has peers", mend="start it: fairway agent")


def _status(host: Host, arguments: Arguments, _: Progress) -> Answer:
    arguments.finish()
    counts = host.counts()
    free = host.store.free_bytes()
    return Answer(
        {
            "pods": counts.pods,
            "attachments": counts.attachments,
            "routes": counts.routes,
            "pools": [pool_use_document(use) for use in host.pools.statistics()],
            "state": {"path": str(host.store.path), "free_bytes": free, "writable": free >= _LEAST_FREE},
        }
    )


def _apply_policy(host: Host, arguments: Arguments, _: Progress) -> Answer:
    text, file = arguments.text("text", longest=DOCUMENTS_MAX), arguments.text("file")
    arguments.finish()
    return Answer({"applied": [document_name(key) for key in host.policies.apply(text, file)]})


def _list_policies(host: Host, arguments: Arguments, _: Progress) -> Answer:
    arguments.finish()
    return Answer({"documents": policy_documents(host.policies.documents())})


def _policies_of(host: Host, arguments: Arguments, _: Progress) -> Answer:
    pod = host.pod(arguments.text("pod"))
    arguments.finish()
    isolating = host.policies.isolating(pod)
    isolated = {d.value: [f"{p.namespace}/{p.name}" for p in policies] for d, policies in isolating.items()}
    return Answer({"pod": pod.name, "isolated": isolated})


def _remove_policies(host: Host, arguments: Arguments, _: Progress) -> Answer:
    kind, pairs = arguments.text("kind"), arguments.pairs("names")
    arguments.finish()
    keys = [(kind, namespace, name) for namespace, name in pairs]
    host.policies.remove(keys)
    return Answer({"removed": [document_name(key) for key in keys]})


def _check_foreign(host: Host, leave: bool) -> None:
    """Whether foreign chains are left is the agent's to say, not each caller's."""
    if leave and host.touches_foreign_chains:
        raise UsageError(
            "the agent of this host adds rules to other programs' FORWARD chains",
            mend="to leave them, set leave_foreign_chains = true in its configuration and restart it",
        )


def _foreign(host: Host, leave: bool) -> Json:
    return {"foreign_chains": [chain_document(chain) for chain in host.dropping_chains()]} if leave else {}


CALLS: Mapping[str, Call] = {
    "attach": _attach,
    "detach": _detach,
    "check_attachment": _check_attachment,
    "collect": _collect,
    "pod.add": _add_pod,
    "pod.ls": _list_pods,
    "pod.show": _show_pod,
    "pod.rm": _remove_pods,
    "pod.take_in": _take_in,
    "pod.let_go": _let_go,
    "pool.add": _add_pool,
    "pool.ls": _list_pools,
    "pool.rm": _remove_pool,
    "route.add": _add_route,
    "route.ls": _list_routes,
    "route.rm": _remove_route,
    "policy.apply": _apply_policy,
    "policy.ls": _list_policies,
    "policy.of": _policies_of,
    "policy.rm": _remove_policies,
    "routes.ls": _list_learned,
    "peers.ls": _list_peers,
    "addresses": _own_addresses,
    "check": _check,
    "repair": _repair,
    "status": _status,
}
