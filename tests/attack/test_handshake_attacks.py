"""Handshake data, frames of another level or role, transport parameters, bombs (attacks 1, 16, 30, 33)."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from quic_attacker import AES, Attacker, FalseServer, bounded
from quic_pair import Pair

from fairway.quic import ErrorCode, PeerError, Phase, frames
from fairway.quic import events as ev
from fairway.quic.packets.headers import VERSION_1, PacketType, encode_long_header, encode_retry, parse_long_header
from fairway.quic.packets.protection import initial_secrets, make_opener, make_sealer, retry_tag
from fairway.quic.transport_parameters import TransportParameters, decode_parameters, encode_parameters
from fairway.tls import ClientConfig, ClientSession, CryptoData
from fairway.tls.messages import NewSessionTicket
from fairway.wire import Reader, encode_varint

DESTINATION = b"\x55" * 8


class TestCryptoData:  # 1
    @pytest.mark.parametrize("kind", [PacketType.INITIAL, PacketType.HANDSHAKE])
    def test_1_handshake_data_far_ahead_exceeds_the_buffer(self, kind: PacketType) -> None:
        attacker = Attacker(connect=False)
        # The server's last flight is lost, so that it keeps its handshake keys.
        attacker.pair.run(lambda: any(True for _ in attacker.pair.endpoint.connections()))
        if kind is PacketType.HANDSHAKE:
            attacker.pair.there.drop = None
            attacker.pair.run(lambda: bool(attacker.pair.client.of(ev.HandshakeCompleted)))
        attacker.pair.client.core = None
        attacker.pair.server.core = attacker.pair.endpoint.connections()[0]
        packet = attacker.long_packet(kind, frames.Crypto(70_000, b"x" * 100).encode())
        attacker.pair.inject(packet, to_server=True)
        assert attacker.code == ErrorCode.CRYPTO_BUFFER_EXCEEDED

    def test_a_finished_twice_in_one_packet_is_a_finished(self) -> None:
        """As an honest peer (qh3) sends it again after a loss: the first completes the handshake, the second is old."""
        attacker = Attacker(connect=False)
        lost: list[bytes] = []

        def lose(index: int, data: bytes) -> bool:
            attacker._look(index, data)
            if attacker.pair.client.of(ev.HandshakeCompleted):
                lost.append(data)
            return bool(lost)

        attacker.pair.there.drop = lose
        attacker.pair.run(lambda: lost != [])
        opener = make_opener(VERSION_1, AES, attacker.secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET"))
        payloads, offset = [], 0
        for data in lost:
            offset = 0
            while offset < len(data) and data[offset] & 0x80:
                header = parse_long_header(data, offset, len(data))
                if header.type is PacketType.HANDSHAKE:
                    opened = opener.open_long(data, offset, header, -1)
                    assert opened is not None
                    payloads.append(opened[1])
                offset = header.end
        finished = frames.Crypto(0, b"").encode()[:2] + b"\x24\x14\x00\x00\x20"  # 36 bytes, a Finished
        (payload,) = [payload for payload in payloads if finished in payload]
        crypto = payload[payload.index(finished) :][: 3 + 36]
        attacker.pair.client.core = None
        attacker.pair.server.core = attacker.pair.endpoint.connections()[0]
        attacker.pair.inject(attacker.long_packet(PacketType.HANDSHAKE, crypto + crypto), to_server=True)
        assert attacker.closing is None
        assert attacker.server.phase is Phase.CONFIRMED

    def test_1_after_the_handshake_too(self) -> None:
        attacker = Attacker()
        attacker.send(frames.Crypto(65_536 + 100, b"x").encode())
        assert attacker.code == ErrorCode.CRYPTO_BUFFER_EXCEEDED

    def test_1_what_fits_is_kept_within_the_bound(self) -> None:
        attacker = Attacker()
        with bounded(steps=100_000, megabytes=1.0):
            for offset in range(1, 60_000, 1000):
                attacker.send(frames.Crypto(offset, b"x" * 500).encode())
        assert attacker.code is None
        attacker.honest_peers_notice_nothing()


class TestCrumbsOfHandshakes:  # 1
    def test_1_a_stranger_cannot_make_us_keep_a_map_of_crumbs(self) -> None:
        pair = Pair(connect=False)
        pair.client.core = None
        with bounded(steps=400_000, megabytes=0.2):
            for number in range(30):
                start = 1 + 600 * number
                crumbs = b"".join(frames.Crypto(offset, b"x").encode() for offset in range(start, start + 600, 3))
                pair.inject(initial(crumbs, number), to_server=True)
        assert pair.server.core is not None
        assert pair.server.core.closing is not None
        assert pair.server.core.closing.code == ErrorCode.CRYPTO_BUFFER_EXCEEDED

    def test_1_handshake_data_does_not_go_on_for_ever_after_the_handshake(self) -> None:
        """Each ticket is as TLS wants it; those past the few that are kept are passed over."""
        server, offset = FalseServer(), 0
        ticket = (3600).to_bytes(4, "big") + bytes(5) + (16_000).to_bytes(2, "big") + bytes(16_000) + bytes(2)
        message = b"\x04" + len(ticket).to_bytes(3, "big") + ticket
        with bounded(steps=150_000, megabytes=0.5):
            while server.code is None and offset < 4 << 20:
                server.send(frames.Crypto(offset, message).encode())
                offset += len(message)
        assert server.code == ErrorCode.CRYPTO_BUFFER_EXCEEDED
        assert offset < 3 << 19

    def test_1_a_ticket_as_large_as_no_ticket_is(self) -> None:
        server = FalseServer()
        server.send(frames.Crypto(0, b"\x04" + (60_000).to_bytes(3, "big") + bytes(60_000)).encode())
        assert server.code is not None
        assert 0x100 <= server.code < 0x200

    def test_tickets_without_end_are_handed_on_a_few(self) -> None:
        server = FalseServer()
        ticket = NewSessionTicket(3600, 0, b"", b"ticket", {}).encode()
        for number in range(300):
            server.send(frames.Crypto(number * len(ticket), ticket).encode())
        assert server.code is None
        server.pair.run_for(0.1)
        assert sum(isinstance(event, ev.TicketReceived) for event in server.pair.client.events) == 4

    def test_1_offsets_at_the_end_of_the_number_space(self) -> None:
        for offset in ((1 << 62) - 2, (1 << 32), 65_537 + 300):
            attacker = Attacker()
            attacker.send(frames.Crypto(offset, b"x").encode())
            assert attacker.code == ErrorCode.CRYPTO_BUFFER_EXCEEDED


class TestFramesInTheWrongPlace:  # 16
    def test_16_a_client_cannot_say_that_the_handshake_is_done(self) -> None:
        attacker = Attacker()
        attacker.send(frames.HandshakeDone().encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize(
        "frame",
        [
            frames.HandshakeDone(),
            frames.Stream(0, 0, b"early"),
            frames.MaxData(1),
            frames.NewToken(b"x"),
            frames.PathChallenge(bytes(8)),
            frames.ConnectionClose(1, application=True),
        ],
    )
    def test_16_frames_of_another_level_close_without_an_exception(self, frame: frames.Frame) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.pair.client.core = None
        attacker.pair.inject(attacker.long_packet(PacketType.INITIAL, frame.encode()), to_server=True)
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    def test_16_a_client_sends_no_tokens(self) -> None:
        attacker = Attacker()
        attacker.send(frames.NewToken(b"token").encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION


WRONG_IN_HANDSHAKE = [
    frames.HandshakeDone(),
    frames.Stream(0, 0, b"early"),
    frames.ResetStream(0, 0, 0),
    frames.ResetStreamAt(0, 0, 0, 0),
    frames.MaxData(1),
    frames.NewToken(b"x"),
    frames.NewConnectionId(1, 0, b"12345678", bytes(16)),
    frames.RetireConnectionId(0),
    frames.PathChallenge(bytes(8)),
    frames.PathResponse(bytes(8)),
    frames.ConnectionClose(1, application=True),
]


class TestLevels:  # 16
    @pytest.mark.parametrize("frame", WRONG_IN_HANDSHAKE, ids=lambda frame: type(frame).__name__)
    def test_16_in_a_handshake_packet_to_a_server(self, frame: frames.Frame) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: bool(attacker.pair.client.of(ev.HandshakeCompleted)))
        attacker.take_over()  # before its Finished was heard
        attacker.pair.server.core = attacker.pair.endpoint.connections()[0]
        assert attacker.server.phase is Phase.HANDSHAKE
        attacker.pair.inject(attacker.long_packet(PacketType.HANDSHAKE, frame.encode()), to_server=True)
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize("frame", WRONG_IN_HANDSHAKE, ids=lambda frame: type(frame).__name__)
    def test_16_in_an_initial_packet_to_a_client(self, frame: frames.Frame) -> None:
        server = FalseServer(connect=False)
        server.pair.settle()
        server.take_over()
        server.server_id = b"a server"
        server.pair.inject(server.long_packet(PacketType.INITIAL, frame.encode()), to_server=False)
        assert server.code == ErrorCode.PROTOCOL_VIOLATION

    def test_16_handshake_done_before_the_client_has_keys_is_kept_and_opens_nothing(self) -> None:
        server = FalseServer(connect=False)
        server.pair.settle()
        for _ in range(50):
            server.pair.inject(b"\x40" + server.client_id + os.urandom(40), to_server=False)
        assert server.victim.phase is Phase.HANDSHAKE
        server.pair.run(lambda: server.pair.connected)
        assert server.code is None

    def test_16_handshake_done_again_and_again_changes_nothing(self) -> None:
        server = FalseServer()
        for _ in range(20):
            server.send(frames.HandshakeDone().encode() * 20)
        assert server.victim.phase is Phase.CONFIRMED

    @pytest.mark.parametrize("message", [b"\x18\0\0\1\0", b"\x01\0\0\0", b"\x14\0\0\x20" + bytes(32), b"\x04\0\0\0"])
    def test_16_a_client_has_nothing_to_say_in_tls_after_the_handshake(self, message: bytes) -> None:
        """RFC 9001 section 6: TLS KeyUpdate is unexpected_message, as all others are from a client."""
        attacker = Attacker()
        attacker.send(frames.Crypto(0, message).encode())
        assert attacker.code == ErrorCode.CRYPTO_ERROR + 10


class TestTransportParameters:  # 30
    @pytest.mark.parametrize(
        ("number", "value"),
        [
            (0x03, encode_varint(1199)),
            (0x08, encode_varint((1 << 60) + 1)),
            (0x09, encode_varint((1 << 62) - 1)),
            (0x0A, encode_varint(21)),
            (0x0B, encode_varint(1 << 14)),
            (0x0E, encode_varint(1)),
            (0x0F, bytes(21)),
            (0x01, b""),
            (0x04, encode_varint(5) + b"x"),
            (0x0C, b"x"),
            (0x00, bytes(8)),  # a server's, from a client
            (0x02, bytes(16)),
            (0x0D, bytes(45)),
            (0x10, bytes(8)),
        ],
    )
    def test_30_values_out_of_range(self, number: int, value: bytes) -> None:
        data = encode_varint(number) + encode_varint(len(value)) + value
        with pytest.raises(PeerError) as raised:
            decode_parameters(data, from_client=True)
        assert raised.value.code == ErrorCode.TRANSPORT_PARAMETER_ERROR

    def test_30_a_parameter_given_twice(self) -> None:
        data = encode_parameters(TransportParameters(initial_max_data=5))
        with pytest.raises(PeerError, match="twice"):
            decode_parameters(data + data, from_client=True)

    def test_30_parameters_without_end(self) -> None:
        data = b"".join(encode_varint(31 * n + 27) + b"\0" for n in range(1000))
        with pytest.raises(PeerError, match="too many"):
            decode_parameters(data, from_client=True)


def initial(payload: bytes, number: int) -> bytes:
    """A stranger's Initial packet."""
    sealer = make_sealer(VERSION_1, AES, initial_secrets(VERSION_1, DESTINATION)[0])
    payload = payload.ljust(1180, b"\0")
    header = encode_long_header(PacketType.INITIAL, VERSION_1, DESTINATION, b"attacker", number, 2, len(payload) + 16)
    return sealer.seal_long(header, number, 2, payload)


def client_hello(parameters: bytes) -> bytes:
    """A genuine ClientHello with any transport parameters."""
    tls = ClientConfig("localhost", ("test",), verify=False)
    session = ClientSession(tls, parameters, random=os.urandom, now=lambda: datetime.now(UTC))
    return b"".join(event.data for event in session.start() if isinstance(event, CryptoData))


def closes_on_the_wire(datagram: bytes) -> frames.ConnectionClose:
    """The CONNECTION_CLOSE in a server's Initial packet."""
    header = parse_long_header(datagram, 0, len(datagram))
    opener = make_opener(VERSION_1, AES, initial_secrets(VERSION_1, DESTINATION)[1])
    opened = opener.open_long(datagram, 0, header, -1)
    assert opened is not None
    reader = Reader(opened[1])
    while reader.remaining:
        _, frame = frames.decode_frame(reader)
        if isinstance(frame, frames.ConnectionClose):
            return frame
    raise AssertionError("no CONNECTION_CLOSE")


OURS = encode_varint(0x0F) + b"\x08attacker"


def parameter(number: int, value: bytes) -> bytes:
    return encode_varint(number) + encode_varint(len(value)) + value


class TestRetries:
    @pytest.mark.parametrize("bad", [None, "source", "token", "tag"])
    def test_a_client_follows_a_retry_only_as_it_should_be(self, bad: str | None) -> None:
        pair = Pair(connect=False)
        client = pair.client.core
        assert client is not None
        out = client.transmit(pair.now, max_segments=1)
        assert out is not None
        header = parse_long_header(out.data, 0, len(out.data))
        source = header.destination if bad == "source" else b"another1"
        token = bytes(600 if bad == "token" else 500)
        retry = encode_retry(VERSION_1, header.source, source, token)
        retry += retry_tag(VERSION_1, header.destination, retry) if bad != "tag" else bytes(16)
        client.receive(retry, len(retry), pair.now)
        again = client.transmit(pair.now, max_segments=1)
        assert again is not None
        assert parse_long_header(again.data, 0, len(again.data)).token == (token if bad is None else b"")


class TestParametersInAHandshake:  # 30
    @pytest.mark.parametrize(
        "parameters",
        [
            b"",
            parameter(0x0F, b"somebody"),
            OURS + OURS,
            OURS + parameter(0x0A, encode_varint(21)),
            OURS + parameter(0x02, bytes(16)),
            OURS + parameter(0x08, encode_varint((1 << 60) + 1)),
            OURS + b"\x04",
            OURS + b"\x04\x08\xff",
            OURS + b"\x04\xff" + b"\xff" * 7,
            OURS + b"".join(parameter(31 * n + 27, b"") for n in range(200)),
        ],
    )
    def test_30_the_peer_is_told_which_error(self, parameters: bytes) -> None:
        pair = Pair(connect=False)
        pair.client.core = None
        sent: list[bytes] = []
        pair.back.drop = lambda index, data: bool(sent.append(data))
        with bounded(steps=15_000):
            pair.inject(initial(frames.Crypto(0, client_hello(parameters)).encode(), 0), to_server=True)
        close = closes_on_the_wire(sent[-1])
        assert close.code == ErrorCode.TRANSPORT_PARAMETER_ERROR
        assert close.frame_type == frames.CRYPTO
        assert not close.application

    def test_30_the_greatest_values_are_taken(self) -> None:
        top = encode_varint((1 << 62) - 1)
        greatest = {0x01: top, 0x03: top, 0x04: top, 0x05: top, 0x06: top, 0x07: top, 0x08: encode_varint(1 << 60),
                    0x09: encode_varint(1 << 60), 0x0A: encode_varint(20), 0x0B: encode_varint((1 << 14) - 1),
                    0x0C: b"", 0x0E: top}  # fmt: skip
        pair = Pair(connect=False)
        pair.client.core = None
        hello = client_hello(OURS + b"".join(parameter(number, value) for number, value in greatest.items()))
        with bounded(steps=15_000):
            pair.inject(initial(frames.Crypto(0, hello).encode(), 0), to_server=True)
            pair.run_for(1.0)
        assert pair.server.core is not None
        assert pair.server.core.closing is None
        assert pair.server.core.peer_parameters.initial_max_data == (1 << 62) - 1


class TestBombs:  # 33
    def test_33_a_client_hello_that_says_it_is_huge(self) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: True)
        assert attacker.pair.client.core is not None
        attacker.pair.settle()
        attacker.pair.client.core = None
        hello = b"\x01" + (1 << 23).to_bytes(3, "big") + bytes(1000)
        pair = Attacker(connect=False)
        pair.pair.settle()
        pair.pair.client.core = None
        packet = pair.long_packet(PacketType.INITIAL, frames.Crypto(0, hello).encode(), number=0)
        pair.pair.inject(packet, to_server=True)
        assert pair.code is not None
        assert 0x100 <= pair.code < 0x200

    def test_33_handshake_messages_without_end(self) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.settle()
        attacker.pair.client.core = None
        with bounded(steps=40_000, megabytes=2.0):
            for index in range(400):
                hello = b"\x01\x00\x3f\xff" + bytes(996) if not index else bytes(1000)
                crypto = frames.Crypto(index * 1000, hello)
                packet = attacker.long_packet(PacketType.INITIAL, crypto.encode(), number=index)
                attacker.pair.inject(packet, to_server=True)
                if attacker.pair.server.core is not None and attacker.code is not None:
                    break
        assert attacker.code is not None
        assert index < 100
