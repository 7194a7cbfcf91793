"""Network policy as the kernel holds it: sets of addresses, chains of rules, and which address goes by which chain.

A chain is named by its content, so that pods to which the same applies share it, and one that is there is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairway.net.model.policy import Direction

Element = str | tuple[str, str, int]
"""An address ("10.0.1.2"), a network ("10.0.0.0/8"), or an address with a protocol and a port."""


@dataclass(frozen=True, slots=True)
class SetKind:
    """What a set holds. Networks are a set of intervals, whose elements do not overlap."""

    version: int  # of IP
    networks: bool = False
    with_port: bool = False


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule: what it lets pass. It is known by its comment, which has a hash of the rest."""

    comment: str
    version: int = field(default=0, compare=False)  # 0: any
    set_name: str = field(default="", compare=False)  # empty: any address
    with_port: bool = field(default=False, compare=False)  # of the set: then the protocol and ports are in it
    protocol: str = field(default="", compare=False)  # empty: any
    ports: tuple[tuple[int, int], ...] = field(default=(), compare=False)  # empty: any


@dataclass(frozen=True, slots=True)
class PolicyChain:
    """What one or more pods may get, or send; anything else that comes to it is counted and dropped."""

    name: str
    direction: Direction = field(compare=False)
    lines: tuple[RuleLine, ...]


@dataclass(frozen=True, slots=True)
class Isolated:
    """What goes to (or comes from) an address of a pod here goes by the chain."""

    direction: Direction
    address: str
    version: int
    chain: str


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """All of it. While no policy is in force (not `active`) there is nothing, and a packet pays nothing."""

    active: bool = False
    sets: Mapping[str, tuple[SetKind, frozenset[Element]]] = field(default_factory=dict)
    chains: Mapping[str, PolicyChain] = field(default_factory=dict)
    isolated: frozenset[Isolated] = frozenset()

    def __hash__(self) -> int:
        """Facts are kept in sets; two tables of the same chains and isolated pods are rarely different."""
        return hash((frozenset(self.chains), self.isolated))


@dataclass(slots=True)
class PolicyDelta:
    """What makes one table into another, to be done as one transaction."""

    new_sets: dict[str, SetKind] = field(default_factory=dict)
    new_chains: list[PolicyChain] = field(default_factory=list)
    add: dict[str, set[Element]] = field(default_factory=dict)
    remove: dict[str, set[Element]] = field(default_factory=dict)
    isolate: set[Isolated] = field(default_factory=set)
    release: set[Isolated] = field(default_factory=set)
    old_chains: set[str] = field(default_factory=set)
    old_sets: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)
