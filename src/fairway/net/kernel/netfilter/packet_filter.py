"""What lets packets pass or not: our nftables, other programs' chains, and the connections that are tracked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter.nftables import Json, Nft
from fairway.net.kernel.sessions import Sessions
from fairway.net.model.facts import (
    AllowedSources,
    Fact,
    ForeignChain,
    ForwardAccept,
    IPAddress,
    Masquerade,
    PolicyRules,
    TunnelGuard,
)
from fairway.net.model.policy_table import PolicyDelta, PolicyTable


class PacketFilter:
    """That of any number of namespaces; what is changed is changed in `home`."""

    def __init__(self, home: str, sessions: Sessions) -> None:
        self._home = home
        self._sessions = sessions

    # Where pods may send from

    def firewall(self, namespace: str) -> set[Fact]:
        """Our nftables table in `namespace`, if it is whole, and the sources that it allows."""
        with self._sessions as sessions:
            return set(sessions.firewall(namespace).observe())

    def firewall_is_whole(self, namespace: str) -> bool:
        """Whether our nftables table in `namespace` is as it should be; the cost does not grow with its sources."""
        with self._sessions as sessions:
            return sessions.firewall(namespace).whole()

    def allowed_sources(self, wanted: AllowedSources) -> set[Fact]:
        """Which of these addresses that link may send from; the cost does not grow with other links."""
        with self._sessions as sessions:
            return set(sessions.firewall(wanted.namespace).observe_link(wanted))

    def silence(self, sources: AllowedSources, index: int) -> int:
        """Let nothing from these addresses pass that enters by that link; the handle of the chain that sees to it.

        `index` is the link's, which may be about to end.
        """
        return self._sessions.firewall(sources.namespace).silence(sources, index)

    def end_guard(self, link: str, handle: int) -> None:
        """Take away the chain of that handle at the home namespace's `link`; 0, or one that is gone: nothing."""
        self._sessions.firewall(self._home).end(link, handle)

    # Policies of the network

    def policy_rules(self, namespace: str, wanted: PolicyTable) -> PolicyRules | None:
        """The network policies in our table in `namespace`, held against what they should be; None: there are none."""
        with self._sessions as sessions:
            table = sessions.policies(namespace).observe(wanted)
        return PolicyRules(namespace, table) if table != PolicyTable() else None

    def change_policy(self, delta: PolicyDelta) -> None:
        """Change the home namespace's policies in one transaction."""
        self._sessions.policies(self._home).apply(delta)

    def replace_policy(self, table: PolicyTable) -> None:
        """Put `table` in the place of the home namespace's policies, in one transaction."""
        self._sessions.policies(self._home).replace(table)

    # Masquerading

    def masquerade(self, wanted: Masquerade | None) -> None:
        """Hide what `wanted` says behind the home namespace's own addresses, and nothing else."""
        self._sessions.masquerade(self._home).replace(wanted)

    def masqueraded(self, namespace: str) -> Masquerade | None:
        """What is hidden in `namespace`; None: nothing."""
        with self._sessions as sessions:
            return sessions.masquerade(namespace).observe()

    # Tunnels

    def tunnel_guard(self, namespace: str) -> TunnelGuard | None:
        """Who may send VXLAN to `namespace`, known by its mark; None: there is no guard."""
        with self._sessions as sessions:
            return sessions.tunnel_guard(namespace).observe()

    # Other programs' chains

    def dropping_chains(self, namespace: str) -> tuple[ForeignChain, ...]:
        """Other programs' chains in `namespace` that drop what is forwarded."""
        foreign = self._sessions.foreign(namespace)
        return namespaces.inside(namespace, foreign.dropping_chains)

    def accepts(self, namespace: str) -> set[ForwardAccept]:
        """Our rules in other programs' chains."""
        foreign = self._sessions.foreign(namespace)
        return namespaces.inside(namespace, foreign.accepts)

    # Anything else

    def forget_connections(self, addresses: Iterable[IPAddress]) -> None:
        """Forget the connections from and to these addresses that the home namespace tracks."""
        self._sessions.connections(self._home).forget(addresses)

    def tracked_addresses(self, most: int) -> set[IPAddress] | None:
        """Who began, or answers, a connection that the home namespace tracks; None if there are more than `most`."""
        return self._sessions.connections(self._home).addresses(most)

    def nft(self, namespace: str, commands: Sequence[Json]) -> list[Json]:
        """Do nftables commands (libnftables' JSON) in `namespace`, as one transaction; returns what they list."""
        with contextlib.closing(namespaces.inside(namespace, Nft)) as nft:
            return nft.run(commands)
