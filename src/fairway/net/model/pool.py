"""Pools: what pods' addresses are taken from, and which pods each is for."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.model.facts import IPAddress, IPNetwork

DEFAULT_COOLDOWN_S = 60


@dataclass(frozen=True, slots=True)
class Pool:
    """A block of addresses that is this host's to give. Pools of several hosts, and of both IP versions, share a name.

    `kubernetes_namespaces` and `networks`, where they are not empty, say which pods it is for; then it is for no
    others, and these take from it before any that is for all. `whole` is the network that the block is a part of.
    """

    block: IPNetwork
    name: str = ""
    whole: IPNetwork | None = None
    kubernetes_namespaces: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    cooldown_s: int = DEFAULT_COOLDOWN_S  # how long an address rests before somebody else gets it
    masquerade: bool = False  # what pods send to outside the network leaves under the host's own address

    @property
    def title(self) -> str:
        """What it is called: by its block, where it has no name."""
        return self.name or str(self.block)


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How many addresses a pool has for pods, and how many of them are taken."""

    pool: Pool
    capacity: int
    taken: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What is said of the addresses that a pod is to have; what is empty is left to the pools."""

    addresses: tuple[IPAddress, ...] = ()
    versions: tuple[int, ...] = ()  # of IP, of each of which it is to have one
    pools: tuple[str, ...] = ()  # by their names
    sticky: str = ""  # who gives the same words gets the same addresses again, while they are to be had
    kubernetes_namespace: str = ""
    network: str = ""
