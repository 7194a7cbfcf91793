"""Peers that misbehave on purpose: they have the keys of an honest handshake and seal what they like."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from quic_pair import CLIENT_ADDRESS, Pair, Side, identity

from effort import counted
from fairway.quic import Closing, Connection, QuicConfiguration
from fairway.quic import events as ev
from fairway.quic.packets.headers import (
    FIXED_BIT,
    KEY_PHASE,
    LONG_HEADER,
    VERSION_1,
    PacketType,
    encode_long_header,
    parse_long_header,
)
from fairway.quic.packets.protection import (
    Sealer,
    header_masks,
    initial_secrets,
    make_sealer,
    packet_keys,
    updated_secret,
)
from fairway.tls import CipherSuite, ClientConfig, ServerConfig

AES = CipherSuite.AES_128_GCM_SHA256
ID_LENGTH = 8


class _FalsePeer:
    """Takes over one side of a `Pair`, at once or when its handshake is complete."""

    is_client: bool

    def __init__(
        self,
        configuration: QuicConfiguration | None = None,
        *,
        connect: bool = True,
        seed: int = 0,
    ) -> None:
        self._lines: list[str] = []
        self.first_id = b""
        self.server_id = b""
        self.client_id = b""
        tls = ClientConfig("localhost", ("test",), verify=False, cipher_suites=(AES,), keylog=self._lines.append)
        self.pair = Pair(
            configuration,
            client_tls=tls,
            server_tls=ServerConfig((identity(),), ("test",)),
            seed=seed,
            connect=False,
        )
        self.pair.there.drop = self._look
        self.pair.back.drop = self._look_back
        self.number = 1000
        self.phase = 0
        if connect:
            self.pair.run(lambda: self.pair.connected)
            self.pair.run_for(1.0)
            self.take_over()

    def _look(self, index: int, data: bytes) -> bool:
        if data[0] & LONG_HEADER:
            header = parse_long_header(data, 0, len(data))
            self.first_id = self.first_id or header.destination
            self.server_id = header.destination
            self.client_id = header.source
        else:
            self.server_id = data[1 : 1 + ID_LENGTH]
        return False

    def _look_back(self, index: int, data: bytes) -> bool:
        if data[0] & LONG_HEADER:
            self.server_id = parse_long_header(data, 0, len(data)).source
        return False

    @property
    def _side(self) -> Side:
        return self.pair.server if self.is_client else self.pair.client

    @property
    def victim(self) -> Connection:
        """The end that is attacked."""
        assert self._side.core is not None
        return self._side.core

    def take_over(self) -> None:
        """The honest end is silent from here on; its keys, as far as there are any, are ours."""
        if self.is_client:
            self.pair.client.core = None
        else:
            self.pair.server.core = None
        if any(line.startswith(self._label) for line in self._lines):
            self._traffic = self.secret(self._label)
            self.sealer = make_sealer(VERSION_1, AES, self._traffic)

    def secret(self, label: str) -> bytes:
        """A secret of the handshake, from the key log."""
        for line in self._lines:
            name, _, secret = line.split(" ")
            if name == label:
                return bytes.fromhex(secret)
        raise KeyError(label)

    def packet(self, payload: bytes, number: int | None = None, *, phase: int | None = None) -> bytes:
        """A 1-RTT packet with this payload."""
        if number is None:
            number = self.number = self.number + 1
        destination = self.server_id if self.is_client else self.client_id
        first = FIXED_BIT | (self.phase if phase is None else phase)
        return self.sealer.seal(first, destination, number, 4, [payload.ljust(4, b"\0")])

    def update_keys(self) -> None:
        """Go to the next key phase, whatever the victim says."""
        masks = header_masks(AES, packet_keys(VERSION_1, AES, self.secret(self._label))[2])
        self._traffic = updated_secret(VERSION_1, AES, self._traffic)
        key, iv, _ = packet_keys(VERSION_1, AES, self._traffic)
        self.sealer = Sealer(AES, key, iv, masks)
        self.phase ^= KEY_PHASE

    @property
    def _label(self) -> str:
        return "CLIENT_TRAFFIC_SECRET_0" if self.is_client else "SERVER_TRAFFIC_SECRET_0"

    def send(self, payload: bytes, number: int | None = None) -> None:
        """Deliver a 1-RTT packet with this payload; both sides then send what is due."""
        self.pair.inject(self.packet(payload, number), to_server=self.is_client)

    def push(self, payload: bytes) -> None:
        """Deliver a 1-RTT packet with this payload and nothing else: the victim has no turn to answer."""
        packet = self.packet(payload)
        self.victim.receive(packet, len(packet), self.pair.now)

    def long_packet(self, kind: PacketType, payload: bytes, number: int = 1000) -> bytes:
        """An Initial or a Handshake packet with this payload, padded to 1200 bytes."""
        if kind is PacketType.INITIAL:
            sealer: Sealer = make_sealer(VERSION_1, AES, initial_secrets(VERSION_1, self.first_id)[not self.is_client])
        else:
            label = "CLIENT_HANDSHAKE_TRAFFIC_SECRET" if self.is_client else "SERVER_HANDSHAKE_TRAFFIC_SECRET"
            sealer = make_sealer(VERSION_1, AES, self.secret(label))
        payload = payload.ljust(1180, b"\0")
        ours, theirs = (self.client_id, self.server_id) if self.is_client else (self.server_id, self.client_id)
        header = encode_long_header(kind, VERSION_1, theirs, ours, number, 2, len(payload) + 16)
        return sealer.seal_long(header, number, 2, payload)

    @property
    def closing(self) -> Closing | None:
        """How the victim ended the connection."""
        return self.victim.closing

    @property
    def code(self) -> int | None:
        """The code with which the victim ended the connection; None if it did not."""
        return None if self.closing is None else self.closing.code

    @property
    def answered(self) -> int:
        """Bytes that the victim has sent."""
        return self.pair.back.bytes if self.is_client else self.pair.there.bytes


class FalseServer(_FalsePeer):
    """A server that attacks its client."""

    is_client = False


class Attacker(_FalsePeer):
    """A client that attacks its server, and the endpoint that others use too."""

    is_client = True

    @property
    def server(self) -> Connection:
        """The server's end."""
        return self.victim

    def batch(self, datagrams: list[bytes]) -> None:
        """Deliver datagrams of one size to the endpoint as one buffer."""
        self.pair.endpoint.receive(b"".join(datagrams), len(datagrams[0]), CLIENT_ADDRESS, self.pair.now)

    def honest_peers_notice_nothing(self) -> None:
        """Another client of the same endpoint connects, sends and is heard."""
        pair = self.pair
        address = ("192.0.2.99", 9)
        client = Connection.client(
            ClientConfig("localhost", ("test",), verify=False),
            now=pair.now,
            random=pair.rng.randbytes,
            clock=lambda: datetime.now(UTC),
        )
        server: Connection | None = None
        events: list[ev.Event] = []
        data = bytes(50_000)
        received = 0
        stream_id: int | None = None
        for _ in range(200):
            pair.now += 0.01
            client.handle_timeout(pair.now)
            while (out := client.transmit(pair.now)) is not None:
                for core in pair.endpoint.receive(out.data, out.segment, address, pair.now):
                    server = core
            if server is not None:
                server.handle_timeout(pair.now)
                while (out := server.transmit(pair.now)) is not None:
                    client.receive(out.data, out.segment, pair.now)
                for event in server.events():
                    if isinstance(event, ev.StreamReadable):
                        received += len(server.read(event.stream_id))
            events += client.events()
            if stream_id is None and client.handshake_complete:
                stream_id = client.open_stream()
                assert stream_id is not None
                client.write(stream_id, data, end=True)
            if received == len(data):
                return
        raise AssertionError("an honest peer was not served")


@contextmanager
def bounded(*, steps: int, megabytes: float = 8.0, at_once: float | None = None) -> Iterator[None]:
    """The block takes fewer steps of Python and keeps less memory than this; at no time has it `at_once` megabytes."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        with counted(steps):
            yield
        kept, peak = (size - before for size in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    assert kept < megabytes * 1e6, f"{kept / 1e6:.1f} MB kept"
    assert at_once is None or peak < at_once * 1e6, f"{peak / 1e6:.1f} MB at once"
