"""A lab's file and what follows from it: the topology, the routes between its nodes, the facts the kernel must hold."""

from fairway.lab.topology.facts import facts, is_cable, link_namespace, link_ports, node_namespace
from fairway.lab.topology.parse import load, parse
from fairway.lab.topology.routes import Unreachable, static_routes, unreachable

__all__ = [
    "Unreachable",
    "facts",
    "is_cable",
    "link_namespace",
    "link_ports",
    "load",
    "node_namespace",
    "parse",
    "static_routes",
    "unreachable",
]
