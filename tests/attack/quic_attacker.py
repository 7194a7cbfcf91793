"""A client that misbehaves on purpose: it has the keys of an honest handshake and seals what it likes."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from quic_pair import Pair, identity

from fairway.quic import Closing, Connection, QuicConfiguration
from fairway.quic import events as ev
from fairway.quic.packet import FIXED_BIT, VERSION_1, PacketType, encode_long_header, parse_long_header
from fairway.quic.protection import Sealer, initial_secrets, make_sealer
from fairway.tls import CipherSuite, ClientConfig, ServerConfig

AES = CipherSuite.AES_128_GCM_SHA256


class Attacker:
    """Takes over the client's side of a `Pair` whose handshake is complete."""

    def __init__(self, configuration: QuicConfiguration | None = None, *, connect: bool = True) -> None:
        self._lines: list[str] = []
        self._first = b""
        self._server_id = b""
        tls = ClientConfig("localhost", ("test",), verify=False, cipher_suites=(AES,), keylog=self._lines.append)
        self.pair = Pair(
            configuration,
            client_tls=tls,
            server_tls=ServerConfig((identity(),), ("test",)),
            connect=False,
        )
        self.pair.there.drop = self._look
        self.number = 1000
        if connect:
            self.pair.run(lambda: self.pair.connected)
            self.pair.run_for(1.0)
            self.sealer = make_sealer(VERSION_1, AES, self.secret("CLIENT_TRAFFIC_SECRET_0"))
            self.pair.client.core = None  # the honest client is silent from here on

    def _look(self, index: int, data: bytes) -> bool:
        if data[0] & 0x80:
            header = parse_long_header(data, 0, len(data))
            self._first = self._first or header.destination
            self._server_id = header.destination
            self.client_id = header.source
        else:
            self._server_id = data[1:9]
        return False

    def secret(self, label: str) -> bytes:
        """A secret of the handshake, from the key log."""
        for line in self._lines:
            name, _, secret = line.split(" ")
            if name == label:
                return bytes.fromhex(secret)
        raise KeyError(label)

    def packet(self, payload: bytes, number: int | None = None, *, phase: int = 0) -> bytes:
        """A 1-RTT packet with this payload."""
        if number is None:
            number = self.number = self.number + 1
        return self.sealer.seal(FIXED_BIT | phase, self._server_id, number, 4, [payload.ljust(4, b"\0")])

    def send(self, payload: bytes, number: int | None = None) -> None:
        """Deliver a 1-RTT packet with this payload to the server."""
        self.pair.inject(self.packet(payload, number), to_server=True)

    def long_packet(self, kind: PacketType, payload: bytes, number: int = 1000) -> bytes:
        """An Initial or a Handshake packet with this payload, padded to 1200 bytes."""
        if kind is PacketType.INITIAL:
            sealer: Sealer = make_sealer(VERSION_1, AES, initial_secrets(VERSION_1, self._first)[0])
        else:
            sealer = make_sealer(VERSION_1, AES, self.secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET"))
        payload = payload.ljust(1180, b"\0")
        header = encode_long_header(kind, VERSION_1, self._server_id, self.client_id, number, 2, len(payload) + 16)
        return sealer.seal_long(header, number, 2, payload)

    @property
    def server(self) -> Connection:
        """The server's end."""
        assert self.pair.server.core is not None
        return self.pair.server.core

    @property
    def closing(self) -> Closing | None:
        """How the server ended the connection."""
        return self.server.closing

    @property
    def code(self) -> int | None:
        """The code with which the server ended the connection; None if it did not."""
        return None if self.closing is None else self.closing.code

    @property
    def answered(self) -> int:
        """Bytes that the server has sent."""
        return self.pair.back.bytes

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
def bounded(*, seconds: float = 3.0, megabytes: float = 8.0) -> Iterator[None]:
    """The block takes no more CPU time and keeps no more memory than this."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    begun = time.process_time()
    try:
        yield
        used = time.process_time() - begun
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used < seconds, f"{used:.2f} s of CPU"
    assert kept < megabytes * 1e6, f"{kept / 1e6:.1f} MB kept"
