"""The difference between what should be and what is, as a list of operations. Pure."""

from fairway.net.reconcile.apply import apply
from fairway.net.reconcile.desired import (
    guard_facts,
    learned_fact,
    learned_facts,
    masquerade_fact,
    node_facts,
    outer_facts,
    pod_facts,
    pod_mac,
    refusal_facts,
    route_facts,
    tunnel_facts,
)
from fairway.net.reconcile.plan import plan

__all__ = [
    "apply",
    "guard_facts",
    "learned_fact",
    "learned_facts",
    "masquerade_fact",
    "node_facts",
    "outer_facts",
    "plan",
    "pod_facts",
    "pod_mac",
    "refusal_facts",
    "route_facts",
    "tunnel_facts",
]
