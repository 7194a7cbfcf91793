"""Two endpoints in memory, a simulated clock and a simulated path between them: no sockets, no sleeping."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fairway.quic import Connection, Endpoint, KnownServer, QuicConfiguration, Transmit
from fairway.quic import events as ev
from fairway.quic.observe import Observe, nobody
from fairway.tls import ClientConfig, Identity, ServerConfig, self_signed_identity

CLIENT_ADDRESS = ("192.0.2.1", 4000)
SERVER_ADDRESS = ("192.0.2.2", 443)

_BEGAN = datetime.now(UTC) - timedelta(seconds=1000)  # certificates are made now

_IDENTITY: list[Identity] = []


def identity() -> Identity:
    """One identity for all tests; Ed25519, so that the sizes of handshakes do not vary."""
    if not _IDENTITY:
        _IDENTITY.append(self_signed_identity(["localhost"], "ed25519"))
    return _IDENTITY[0]


@dataclass
class SimulatedPath:
    """What happens to datagrams one way. Probabilities are per datagram, times seconds."""

    delay: float = 0.01
    jitter: float = 0.0
    """Up to so much more delay: what reorders."""
    loss: float = 0.0
    burst: int = 1
    """Datagrams that are lost in a row."""
    duplication: float = 0.0
    corruption: float = 0.0
    mtu: int = 65535
    rate: float | None = None
    """Bytes a second; None for no limit."""
    queue: int = 1 << 20
    """Bytes that wait for the rate before more are dropped."""
    drop: Callable[[int, bytes], bool] | None = None
    """Drop chosen datagrams, by their index."""
    mark: Callable[[int], int] = lambda mark: mark
    """What becomes of ECN marks."""

    count: int = 0
    bytes: int = 0
    lost: int = 0
    _losing: int = 0
    _free_at: float = 0.0

    def deliveries(self, datagram: bytes, now: float, rng: random.Random) -> list[tuple[float, bytes]]:
        """When this datagram arrives, and as what: nothing if lost, twice if duplicated."""
        index = self.count
        self.count += 1
        self.bytes += len(datagram)
        if len(datagram) > self.mtu or (self.drop is not None and self.drop(index, datagram)):
            self.lost += 1
            return []
        if self._losing > 0:
            self._losing -= 1
            self.lost += 1
            return []
        if self.loss and rng.random() < self.loss / self.burst:
            self._losing = self.burst - 1
            self.lost += 1
            return []
        start = now
        if self.rate is not None:
            if (self._free_at - now) * self.rate > self.queue:
                self.lost += 1
                return []
            self._free_at = start = max(self._free_at, now) + len(datagram) / self.rate
        arrivals = []
        for _ in range(2 if self.duplication and rng.random() < self.duplication else 1):
            data = datagram
            if self.corruption and rng.random() < self.corruption:
                if datagram[0] & 0x80 and not any(datagram[1:5]):
                    continue  # Version Negotiation, which only UDP's checksum protects: what it finds is lost
                at = rng.randrange(len(data))
                data = data[:at] + bytes((data[at] ^ rng.randrange(1, 256),)) + data[at + 1 :]
            arrivals.append((start + self.delay + rng.random() * self.jitter, data))
        return arrivals


@dataclass
class Link:
    """One of the client's sockets: its address as the server sees it, and the way there and back."""

    address: tuple[str, int]
    there: SimulatedPath
    back: SimulatedPath


@dataclass(frozen=True)
class _End:
    """Which socket a datagram comes to, and from which address."""

    local: object
    address: object
    mark: int = 0


_NOWHERE = object()


@dataclass
class Side:
    """One end: its connection, what it has reported, what it has received."""

    name: str
    core: Connection | None = None
    events: list[ev.Event] = field(default_factory=list)
    received: dict[int, bytearray] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    arrivals: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    """For each stream, when so many bytes were read."""
    reading: bool = True

    def of(self, kind: type) -> list[ev.Event]:
        """Events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """A client and a server's endpoint. `run` jumps from one thing that happens to the next."""

    def __init__(
        self,
        configuration: QuicConfiguration | None = None,
        *,
        seed: int = 0,
        there: SimulatedPath | None = None,
        back: SimulatedPath | None = None,
        client_tls: ClientConfig | None = None,
        server_tls: ServerConfig | None = None,
        server_configuration: QuicConfiguration | None = None,
        connect: bool = True,
        max_segments: int = 64,
        observe_client: Observe = nobody,
        observe_server: Observe = nobody,
        endpoint: Endpoint | None = None,
        now: float = 1000.0,
        server: KnownServer | None = None,
        early_data: bool = False,
        **endpoint_options: Any,
    ) -> None:
        self.rng = random.Random(seed)
        self.now = now
        self.max_segments = max_segments
        self.there = there or SimulatedPath()
        self.back = back or replace(self.there)
        configuration = configuration or QuicConfiguration(handshake_timeout_s=120.0)
        self.endpoint = (
            endpoint
            if endpoint is not None
            else Endpoint(
                server_tls or ServerConfig((identity(),), ("test",)),
                server_configuration or configuration,
                random=self.rng.randbytes,
                clock=self.clock,
                observe=observe_server,
                **endpoint_options,
            )
        )
        self.client = Side("client")
        self.server = Side("server")
        self.client.core = Connection.client(
            client_tls or ClientConfig("localhost", ("test",), verify=False),
            configuration,
            now=self.now,
            random=self.rng.randbytes,
            clock=self.clock,
            address=SERVER_ADDRESS,
            observers=observe_client(),
            server=server,
            early_data=early_data,
        )
        self.links: dict[object, Link] = {None: Link(CLIENT_ADDRESS, self.there, self.back)}
        """The client's sockets: where each is seen to be, and the way from there and back."""
        self.server_sockets: dict[object, object] = {SERVER_ADDRESS: None}
        """The server's sockets by their address."""
        self._wire: list[tuple[float, int, bool, bytes, _End]] = []
        self._sequence = 0
        self.on_turn: Callable[[], None] | None = None
        if connect:
            self.run(lambda: self.connected)

    def clock(self) -> datetime:
        """The time of day: simulated time goes on from when the tests began."""
        return _BEGAN + timedelta(seconds=self.now)

    @property
    def connected(self) -> bool:
        """True once both sides have completed the handshake."""
        return bool(self.client.of(ev.HandshakeCompleted)) and bool(self.server.of(ev.HandshakeCompleted))

    def rebind(self, address: tuple[str, int], local: object = None) -> None:
        """The network shows the client's socket under another address from now on; the one before leads nowhere."""
        self.links[local].address = address

    def add_link(
        self, local: object, address: tuple[str, int], there: SimulatedPath | None = None,
        back: SimulatedPath | None = None,
    ) -> Link:  # fmt: skip
        """Give the client another socket, with a network of its own."""
        there = there or SimulatedPath()
        link = self.links[local] = Link(address, there, back or replace(there))
        return link

    def send(self, datagram: bytes, *, to_server: bool, out: Transmit | None = None) -> None:
        """Put a datagram on the path that `out` names, or on the first one."""
        local: object = None
        if to_server:
            target = SERVER_ADDRESS if out is None or out.address is None else out.address
            if target not in self.server_sockets:
                return
            link = self.links.get(None if out is None else out.local)
            end: _End = _End(self.server_sockets[target], link.address if link else None)
        else:
            found = [CLIENT_ADDRESS if out is None else out.address]
            local = next((local for local, link in self.links.items() if link.address == found[0]), _NOWHERE)
            link = self.links.get(local)
            end = _End(local, None)
        if link is None:
            return
        path = link.there if to_server else link.back
        if out is not None and out.mark:
            end = replace(end, mark=path.mark(out.mark))
        for at, data in path.deliveries(datagram, self.now, self.rng):
            self._sequence += 1
            heapq.heappush(self._wire, (at, self._sequence, to_server, data, end))

    def inject(self, datagram: bytes, *, to_server: bool, address: tuple[str, int] = CLIENT_ADDRESS) -> None:
        """Deliver a datagram at once, whatever the path; `address` is who seems to have sent it."""
        self._deliver([datagram], to_server, _End(None, address if to_server else None))
        self.settle()

    def inject_soon(self, datagram: bytes, address: tuple[str, int], delay: float = 0.0) -> None:
        """Let a datagram arrive at the server from this address, as the next thing that happens."""
        self._sequence += 1
        heapq.heappush(self._wire, (self.now + delay, self._sequence, True, datagram, _End(None, address)))

    def settle(self) -> None:
        """Let both sides send what is due now."""
        for side in (self.client, self.server):
            if side.core is None:
                continue
            self._collect(side)
            more = True
            while (out := side.core.transmit(self.now, self.max_segments)) is not None:
                assert more, "there is more to send after a Transmit that said there is not"
                more = out.more
                for start in range(0, len(out.data), out.segment):
                    self.send(out.data[start : start + out.segment], to_server=side is self.client, out=out)
                self._collect(side)
        self.endpoint.replies and self._replies()

    def _replies(self) -> None:
        while self.endpoint.replies:
            reply = self.endpoint.replies.popleft()
            out = Transmit(reply.data, len(reply.data), reply.address, reply.local)
            self.send(reply.data, to_server=False, out=out)

    def _collect(self, side: Side) -> None:
        assert side.core is not None
        for event in side.core.events():
            side.events.append(event)
            if isinstance(event, ev.StreamReadable) and side.reading:
                self.read(side, event.stream_id)
            elif isinstance(event, ev.StreamResetReceived):
                side.core.acknowledge_reset(event.stream_id)

    def read(self, side: Side, stream_id: int) -> None:
        """Read all that is there."""
        assert side.core is not None
        data = side.core.read(stream_id)
        side.received.setdefault(stream_id, bytearray()).extend(data)
        side.arrivals.setdefault(stream_id, []).append((self.now, len(side.received[stream_id])))
        if side.core.at_end(stream_id):
            side.ended.add(stream_id)

    def _deliver(self, datagrams: list[bytes], to_server: bool, end: _End) -> None:
        segment = len(datagrams[0])
        buffer = b"".join(datagrams)
        if to_server:
            address = end.address or CLIENT_ADDRESS
            for core in self.endpoint.receive(buffer, segment, address, self.now, end.local, end.mark):
                if self.server.core is None:
                    self.server.core = core
        elif self.client.core is not None:
            self.client.core.receive(buffer, segment, self.now, None, end.local, end.mark)

    def step(self) -> bool:
        """Go on to the next thing that happens; False if nothing will."""
        self.settle()
        due = [side.core.next_timeout() for side in (self.client, self.server) if side.core is not None]
        times = [at for at in due if at is not None]
        if self._wire:
            times.append(self._wire[0][0])
        if not times:
            return False
        self.now = max(self.now, min(times))
        while self._wire and self._wire[0][0] <= self.now:
            _, _, to_server, data, end = heapq.heappop(self._wire)
            batch = [data]
            # Equal datagrams of one direction that arrive together come as one buffer, as GRO gives them.
            while (
                self._wire
                and self._wire[0][0] <= self.now
                and self._wire[0][2] == to_server
                and self._wire[0][4] == end
                and len(self._wire[0][3]) <= len(data)
                and len(batch[-1]) == len(data)
                and len(batch) < 44
            ):
                batch.append(heapq.heappop(self._wire)[3])
            self._deliver(batch, to_server, end)
        for side in (self.client, self.server):
            if side.core is not None:
                deadline = side.core.next_timeout()
                if deadline is not None and deadline <= self.now:
                    side.core.handle_timeout(self.now)
        self.settle()
        if self.on_turn is not None:
            self.on_turn()
            self.settle()
        return True

    def run(self, until: Callable[[], bool], limit_s: float = 600.0, max_steps: int = 200_000) -> None:
        """Step until `until()`; fails if that takes longer than `limit_s` of simulated time."""
        end = self.now + limit_s
        for _ in range(max_steps):
            if until():
                return
            assert self.step(), "nothing will happen any more"
            assert self.now <= end, f"not done after {limit_s} simulated seconds"
        raise AssertionError(f"not done after {max_steps} steps")

    def run_for(self, seconds: float) -> None:
        """Let simulated time pass."""
        end = self.now + seconds
        while True:
            self.settle()
            due = [side.core.next_timeout() for side in (self.client, self.server) if side.core is not None]
            times = [at for at in due if at is not None]
            if self._wire:
                times.append(self._wire[0][0])
            if not times or min(times) > end:
                self.now = end
                return
            self.step()
