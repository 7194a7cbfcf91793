"""The difference between what should be and what is, as a list of operations. Pure."""

from fairway.net.reconcile.apply import apply
from fairway.net.reconcile.desired import (
    learned_facts,
    masquerade_fact,
    node_facts,
    outer_facts,
    pod_facts,
    pod_mac,
    route_facts,
    tunnel_facts,
)
from fairway.net.reconcile.plan import plan

__all__ = [
    "apply",
    "learned_facts",
    "masquerade_fact",
    "node_facts",
    "outer_facts",
    "plan",
    "pod_facts",
    "pod_mac",
    "route_facts",
    "tunnel_facts",
]
