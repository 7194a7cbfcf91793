"""The link as a process: `python -m interop.wire JSON` in the namespace that has its two ends.

Each direction has a rate, a queue of so many packets before it, and a delay; then comes the fault. What passes is
written to two captures, as the client's end and as the server's end saw it. It says "ready" and ends when told to.
"""

from __future__ import annotations

import ctypes
import json
import select
import signal
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

from fairway.lab.faults.frames import VNET
from fairway.lab.faults.ports import Port
from interop.faults import TO_CLIENT, TO_SERVER, Fault, make
from interop.packets import Packet, singles

CLIENT_END, SERVER_END = "client", "server"
"""Names of the link's ends, and of the captures."""

CLIENT_MAC, SERVER_MAC, LINK_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:0f"
_PR_SET_TIMERSLACK = 29  # linux/prctl.h
_PCAP_HEADER = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)  # nanoseconds, Ethernet
_PCAP_RECORD = struct.Struct("=IIII")


class Direction:
    """A rate, a queue before it, a delay behind it."""

    def __init__(self, rate_mbit: float, queue: int, delay_s: float) -> None:
        self._byte_s = 8 / (rate_mbit * 1e6)
        self._queue, self._delay_s = queue, delay_s
        self._departures: deque[float] = deque()
        self._held: deque[tuple[float, Packet]] = deque()
        self._busy_until = 0.0

    def accept(self, packet: Packet, now: float) -> None:
        """Take a packet in, unless the queue is full."""
        departures = self._departures
        while departures and departures[0] <= now:
            departures.popleft()
        if len(departures) > self._queue:  # one of them is being sent
            return
        self._busy_until = max(now, self._busy_until) + len(packet.frame) * self._byte_s
        departures.append(self._busy_until)
        self._held.append((self._busy_until + self._delay_s, packet))

    @property
    def next_due(self) -> float:
        """When the next packet comes out."""
        return self._held[0][0] if self._held else float("inf")

    def due(self, now: float) -> Packet | None:
        """A packet that comes out now."""
        return self._held.popleft()[1] if self._held and self._held[0][0] <= now else None


class Capture:
    """A pcap file."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._file.write(_PCAP_HEADER)

    def write(self, frame: bytes | bytearray) -> None:
        """One frame, now."""
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        self._file.write(_PCAP_RECORD.pack(seconds, nanoseconds, len(frame), len(frame)) + frame)

    def close(self) -> None:
        """Complete the file."""
        self._file.close()


class Wire:
    """Both directions between two ports."""

    def __init__(self, described: dict[str, Any], fault: Fault) -> None:
        self._ports = [Port(CLIENT_END), Port(SERVER_END)]
        for port in self._ports:
            if not port.look() or port.socket is None:
                raise OSError(f"there is no interface {port.name}")
        self._sockets = [port.socket for port in self._ports if port.socket is not None]
        link = described["rate_mbit"], described["queue"], described["delay_s"]
        self._directions = [Direction(*link), Direction(*link)]
        self._fault = fault
        self._begun: float | None = None
        directory = Path(described["directory"])
        self._captures = [Capture(directory / f"{port.name}.pcap") for port in self._ports]
        self._macs = [bytes.fromhex((receiver + LINK_MAC).replace(":", "")) for receiver in (SERVER_MAC, CLIENT_MAC)]

    def turn(self) -> None:
        """Wait for something to do, and do it."""
        wake = min(direction.next_due for direction in self._directions)
        patience = min(max(0.0, wake - time.monotonic()), 0.5)
        readable, _, _ = select.select(self._sockets, (), (), patience)
        for number, port in enumerate(self._ports):
            if port.socket in readable:
                self._take_in(number, port)
        now = time.monotonic()
        for number, direction in enumerate(self._directions):
            while (packet := direction.due(now)) is not None:
                self._bring_out(number, packet, now)

    def _take_in(self, number: int, port: Port) -> None:
        while (frame := port.receive()) is not None:
            now = time.monotonic()
            for single in singles(frame):
                packet = Packet.parse(single)
                if packet is not None:
                    if self._begun is None:
                        self._begun = now
                    self._captures[number].write(single)
                    self._directions[number].accept(packet, now)

    def _bring_out(self, number: int, packet: Packet, now: float) -> None:
        assert self._begun is not None
        carried = self._fault(packet, number, now - self._begun)
        if carried is None:
            return
        other = 1 - number
        carried.frame[:12] = self._macs[number]
        self._captures[other].write(carried.frame)
        self._ports[other].send(bytes(VNET) + bytes(carried.frame))

    def close(self) -> None:
        """Complete the captures."""
        for capture in self._captures:
            capture.close()


def main(text: str) -> None:
    """Carry packets until SIGTERM."""
    assert (TO_SERVER, TO_CLIENT) == (0, 1)  # a direction's number is its sender's port
    described = json.loads(text)
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    wire = Wire(described, make(described["fault"], described["arguments"]))
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    print("ready", flush=True)
    while not stopped:
        wire.turn()
    wire.close()


if __name__ == "__main__":
    main(sys.argv[1])
