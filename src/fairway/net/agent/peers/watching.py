"""Whether the hosts of peers are there: several times in the detection time each is asked, and what it says is noted.

A host that answers ICMP echo is asked by that: its kernel answers, however busy its agent is, and its kernel is what
carries the pods' packets. One that never did is asked by PINGs of its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fairway.net.agent.peers.echo import Echo
from fairway.net.agent.peers.link import Link
from fairway.net.model.facts import IPAddress

_LOOKS = 5
"""In the detection time."""

_SILENT = 0.6
"""Of the detection time, without a sign of life; what is left is for the next look, and for a last question."""


class Watch:
    """Ends the links whose hosts are silent. If this process itself had no time to listen, everybody is forgiven."""

    def __init__(self, detection_s: float, echo: Echo, links: Callable[[], Iterable[Link]]) -> None:
        self._every_s = detection_s / _LOOKS
        self._silent_s = detection_s * _SILENT
        self._echo = echo
        self._links = links
        self._answered: dict[IPAddress, float] = {}

    def answers(self, address: IPAddress, now: float) -> None:
        """A host has answered an echo."""
        self._answered[address] = now

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(self._every_s)
            now = loop.time()
            was_busy, before = now - before > 2 * self._every_s, now
            addresses = set()
            for link in list(self._links()):
                address = link.observed.address
                addresses.add(address)
                self._look(link, address, now, forgiven=was_busy)
            self._answered = {address: at for address, at in self._answered.items() if address in addresses}

    def _look(self, link: Link, address: IPAddress, now: float, *, forgiven: bool) -> None:
        answered = self._answered.get(address)
        heard = link.heard(now) if answered is None else max(link.heard(now), answered)
        if forgiven:
            link.forgive(now)
        elif now - heard > self._silent_s:
            link.give_up()
            return
        self._echo.send(address)
        if answered is None:
            link.connection.ping()
