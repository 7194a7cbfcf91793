"""Routes: ours as they are, the way of a packet, and those of the home namespace put or taken away at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fairway.net.kernel import messages, observe, records
from fairway.net.kernel.sessions import Sessions
from fairway.net.model.facts import IPAddress, IPNetwork, Refusal, Route


class Routing:
    """Reached as `Kernel.routing`."""

    def __init__(self, home: str, sessions: Sessions) -> None:
        self._home = home
        self._sessions = sessions

    def ours(
        self, namespace: str, destinations: Collection[IPNetwork] | None = None, *, far: bool = False
    ) -> list[Route]:
        """Our routes in `namespace`; if asked for, only those to `destinations`, or `far` ones, through other hosts."""
        with self._sessions as sessions:
            return observe.routes(namespace, sessions.netlink(namespace), destinations, far=far)

    def refusals(self) -> set[Refusal]:
        """Our routes of the home namespace that refuse."""
        return observe.refusals(self._home, self._sessions.netlink(self._home))

    def way_to(self, destination: IPAddress) -> tuple[str, IPAddress | None] | None:
        """The interface and gateway that the home namespace sends packets to `destination` by; None: unreachable."""
        netlink = self._sessions.netlink(self._home)
        message = netlink.get(messages.get_route(destination))
        if message is None:
            return None
        index, gateway = records.way(message)
        return netlink.name(index), gateway

    def put(self, put: Iterable[Route], delete: Iterable[Route]) -> None:
        """Routes of the home namespace in the place of ours, or gone, in one call; what fails is not told."""
        netlink = self._sessions.netlink(self._home)
        requests = [messages.delete_route(each, netlink.index(each.link) if each.link else 0) for each in delete]
        for each in put:
            index = netlink.index(each.link) if each.link else 0
            if index or not each.link:
                requests.append(messages.new_route(each, index, replace=True))
        netlink.batch(requests)

    @property
    def port(self) -> int:
        """The netlink port by which `put` works."""
        return self._sessions.netlink(self._home).port
