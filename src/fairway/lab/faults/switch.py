"""Which ports a frame goes out by: a learning switch, without aging; between two ports, simply the other one."""

from __future__ import annotations

from fairway.lab.faults.frames import VNET

MOST_ADDRESSES = 4096
"""Addresses remembered; the one learned longest ago makes room."""


class Switch:
    """Ports are numbers from 0."""

    def __init__(self, ports: int) -> None:
        self._others = [tuple(other for other in range(ports) if other != port) for port in range(ports)]
        self._port_of: dict[bytes, int] = {}

    def outputs(self, frame: bytes, port: int) -> tuple[int, ...]:
        """Where `frame`, which came in by `port`, goes."""
        others = self._others[port]
        if len(others) == 1:
            return others
        self._learn(frame[VNET + 6 : VNET + 12], port)
        if frame[VNET] & 1:  # to a group, or to all
            return others
        known = self._port_of.get(frame[VNET : VNET + 6])
        if known is None:
            return others
        return () if known == port else (known,)

    def _learn(self, source: bytes, port: int) -> None:
        if self._port_of.get(source) == port or source[0] & 1:
            return
        self._port_of.pop(source, None)
        if len(self._port_of) >= MOST_ADDRESSES:
            del self._port_of[next(iter(self._port_of))]
        self._port_of[source] = port
