"""From what the kernel tells to where one must look again. Pure.

What this process did itself is no reason to look, nor is what nobody's pod is concerned by: a busy host's neighbours
come and go, and so do other programs' routes and interfaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fairway.net.host import Scope
from fairway.net.kernel.events import Event
from fairway.net.kernel.messages import ROUTE_PROTOCOL
from fairway.net.model.names import INTERFACE_PREFIX

_LOOPBACK = 1  # its index in every network namespace
_NOTHING = Scope()


@dataclass(slots=True)
class Suspicion:
    """Where to look: what has gathered since the last look.

    Of a link of ours that is being made the kernel tells, by itself, that it does not work, several times, and then
    that it does; often before who made it is done with it.
    """

    risen: frozenset[str] = frozenset()
    """Links of ours that have come up; those that had before the last look may be given."""
    _scope: Scope = _NOTHING
    _told: dict[str, bool] = field(default_factory=dict)
    """Whether each link works of which the kernel has told by itself."""

    def add(self, events: Iterable[Event]) -> list[Event]:
        """Take up what `events` give reason for, and return those that do."""
        suspicious = []
        for event in events:
            found = suspect(event)
            if found:
                if not found.links or event.gone or event.port:
                    self._scope |= found
                elif event.working or event.name not in self.risen:
                    self._told[event.name] = event.working
                    if event.working:
                        self.risen |= {event.name}
                else:  # it has worked before
                    self._scope |= found
                suspicious.append(event)
        return suspicious

    def scope(self, settled: frozenset[str] = frozenset()) -> Scope:
        """Where to look; that the interfaces in `settled` came up is no reason, as this process made them just now."""
        return self._scope | Scope(
            links=frozenset(name for name, works in self._told.items() if not works or name not in settled)
        )


def suspect(event: Event) -> Scope:
    """Where to look after `event`."""
    if event.own:
        return _NOTHING
    return _BY_KIND[event.kind](event)


def _link(event: Event) -> Scope:
    if event.name.startswith(INTERFACE_PREFIX):
        return Scope(links=frozenset({event.name}))
    # With an interface that goes down, routes go, and the kernel says nothing of them: IPv6's that refuse, with `lo`.
    ground = event.index == _LOOPBACK
    return Scope(routes=True, ground=ground) if event.gone or not event.working else _NOTHING


def _address(event: Event) -> Scope:
    if event.index == _LOOPBACK:
        return Scope(ground=True)
    return Scope(routes=True) if event.gone else _NOTHING


def _route(event: Event) -> Scope:
    network = event.network
    if network is None or not (event.gone or event.replaced):
        return _NOTHING
    if network.prefixlen == network.max_prefixlen:
        return Scope(addresses=frozenset({network.network_address}))
    if event.protocol == ROUTE_PROTOCOL:  # to another host's pods, or one that refuses
        return Scope(routes=True, ground=True)
    return Scope(routes=True) if event.replaced else _NOTHING


def _neighbour(event: Event) -> Scope:
    if event.network is None or event.network.is_multicast or not (event.gone or event.port):
        return _NOTHING
    return Scope(addresses=frozenset({event.network.network_address}))


def _rules(_: Event) -> Scope:
    return Scope(ground=True, guards=True)


def _forwarding(event: Event) -> Scope:
    return Scope(ground=True) if event.gone else _NOTHING


_BY_KIND = {
    "link": _link,
    "address": _address,
    "route": _route,
    "neighbour": _neighbour,
    "rules": _rules,
    "forwarding": _forwarding,
}
