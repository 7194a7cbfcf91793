"""What is not as it should be, in words that a person understands."""

from __future__ import annotations

from dataclasses import replace

from fairway.net.model.facts import (
    AllowedSources,
    Fact,
    Firewall,
    Masquerade,
    Namespace,
    PolicyRules,
    Route,
    Sysctl,
    TunnelGuard,
    Up,
    Veth,
)
from fairway.net.model.operations import Change, Create, Operation
from fairway.net.model.words import describe


def document(operation: Operation) -> dict[str, str]:
    """One difference, for a JSON document."""
    fact = operation.fact
    return {
        "state": state(operation),
        "kind": type(fact).__name__.lower(),
        "namespace": fact.name if isinstance(fact, Namespace) else fact.namespace,
        "text": words(operation),
    }


def state(operation: Operation) -> str:
    """Whether the thing is missing, different, or left over."""
    if isinstance(operation, Create):
        return "missing"
    return "different" if isinstance(operation, Change) else "left over"


def words(operation: Operation) -> str:
    """One difference in words."""
    fact = operation.fact
    if isinstance(operation, Change):
        return f"{describe(fact)} {_difference(fact, operation.observed)}"
    if isinstance(operation, Create):
        return f"{describe(fact)} is {'down' if isinstance(fact, Up) else 'missing'}"
    return f"{describe(fact)} is left over"


def _difference(fact: Fact, observed: Fact) -> str:
    """What of `fact` is not so in `observed`: "has mtu 1500, and should have 1400"."""
    if isinstance(fact, Sysctl) and isinstance(observed, Sysctl):
        return f"is {observed.value}, and should be {fact.value}"
    if isinstance(fact, Firewall | AllowedSources | Masquerade | TunnelGuard):
        return "was changed by somebody else"
    if isinstance(fact, PolicyRules):
        return "were changed by somebody else"
    if isinstance(fact, Veth) and isinstance(observed, Veth) and observed.peer_mtu and not fact.shared_peer:
        return f"has MTU {observed.mtu} at one end, {observed.peer_mtu} at the other; both should be {fact.mtu}"
    if isinstance(fact, Veth) and isinstance(observed, Veth) and fact.shared_peer:
        observed = replace(observed, peer_mtu=0, peer_mac=fact.peer_mac, shared_peer=True)
    names = [name for name in fact.__slots__ if _wanted(fact, name) and getattr(fact, name) != getattr(observed, name)]
    parts = [f"{name.replace('_', ' ')} {getattr(observed, name) or 'none'}" for name in names]
    wanted = [f"{getattr(fact, name) or 'none'}" for name in names]
    return f"has {', '.join(parts)}, and should have {', '.join(wanted)}" if names else "is different"


def _wanted(fact: Fact, name: str) -> bool:
    """Whether `fact` says anything of its field `name`; an empty link or link-layer address may be any."""
    return bool(getattr(fact, name)) or not (
        name in ("mac", "peer_mac", "peer_mtu") or (isinstance(fact, Route) and name == "link")
    )
