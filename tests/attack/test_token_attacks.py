"""Floods of Initials, and tokens that are forged, replayed, too old or somebody else's (attacks 11 and 12)."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from quic_attacker import bounded
from quic_pair import CLIENT_ADDRESS, Pair, identity

from fairway.quic import Endpoint, ErrorCode, KnownServer, MemorySessionStore, frames
from fairway.quic import events as ev
from fairway.quic.endpoint.admission import AdmissionLimits
from fairway.quic.endpoint.tokens import Tokens
from fairway.quic.limits import RETRY_FROM_PENDING
from fairway.quic.packets.headers import VERSION_1, PacketType, encode_long_header, parse_long_header
from fairway.quic.packets.protection import initial_secrets, make_opener, make_sealer
from fairway.tls import CipherSuite, SealingKeys, ServerConfig
from fairway.wire import Reader

SERVER = ("localhost", 443, ("test",))


def initial(destination: bytes, token: bytes = b"", payload: bytes = b"\x01") -> bytes:
    """A client's Initial packet of 1,200 bytes or a little more."""
    sealer = make_sealer(VERSION_1, CipherSuite.AES_128_GCM_SHA256, initial_secrets(VERSION_1, destination)[0])
    payload = payload.ljust(1180, b"\0")
    header = encode_long_header(PacketType.INITIAL, VERSION_1, destination, b"attacker", 0, 2, len(payload) + 16, token)
    return sealer.seal_long(header, 0, 2, payload)


class TestFlood:  # 11
    def test_11_a_flood_of_initials_switches_retry_on_and_honest_newcomers_are_served(self) -> None:
        pair = Pair(connect=False, limits=AdmissionLimits(retry_from=20))
        hello = frames.Crypto(0, b"\x01\x00\x02\x00").encode()  # the beginning of a ClientHello
        with bounded(steps=2_000_000, megabytes=2.0):
            for index in range(2000):
                packet = initial(index.to_bytes(8, "big"), payload=hello)
                address = (f"203.0.113.{index % 250}", 1024 + index)
                pair.endpoint.receive(packet, len(packet), address, pair.now)
        assert len(pair.endpoint) == 20
        assert len(pair.endpoint.replies) <= 256
        pair.endpoint.replies.clear()
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        assert pair.client.core is not None
        assert pair.client.core.peer_parameters.retry_source_connection_id is not None

    def test_11_it_switches_itself_off_when_the_flood_is_over(self) -> None:
        pair = Pair(connect=False, limits=AdmissionLimits(retry_from=20))
        hello = frames.Crypto(0, b"\x01\x00\x02\x00").encode()
        for index in range(50):
            packet = initial(index.to_bytes(8, "big"), payload=hello)
            pair.endpoint.receive(packet, len(packet), CLIENT_ADDRESS, pair.now)
        for connection in pair.endpoint.connections():
            pair.endpoint.forget(connection)
        pair.endpoint.replies.clear()
        pair.run(lambda: pair.connected)
        assert pair.client.core is not None
        assert pair.client.core.peer_parameters.retry_source_connection_id is None

    def test_11_an_answer_is_far_smaller_than_the_question(self) -> None:
        endpoint = Endpoint(
            ServerConfig((identity(),), ("test",)), random=os.urandom, clock=lambda: datetime.now(UTC), retry=True
        )
        packet = initial(b"\x01" * 8)
        endpoint.receive(packet, len(packet), CLIENT_ADDRESS, 1000.0)
        assert [len(reply.data) < 200 for reply in endpoint.replies] == [True]
        assert 0 < RETRY_FROM_PENDING < 1000


class Server:
    """An endpoint that always asks for proof, at a time of day of the test's choice."""

    def __init__(self) -> None:
        self.time = 1_750_000_000.0
        self.endpoint = Endpoint(
            ServerConfig((identity(),), ("test",)),
            random=os.urandom,
            clock=lambda: datetime.fromtimestamp(self.time, UTC),
            retry=True,
        )

    def tell(self, packet: bytes, address: tuple[object, ...] = CLIENT_ADDRESS) -> bytes | None:
        """Deliver a datagram; the one that answers it without a connection."""
        self.endpoint.receive(packet, len(packet), address, 1000.0)
        replies = [reply.data for reply in self.endpoint.replies]
        self.endpoint.replies.clear()
        return replies[0] if replies else None

    def retry(self, destination: bytes = b"\x01" * 8) -> tuple[bytes, bytes]:
        """Token and connection ID of a Retry."""
        reply = self.tell(initial(destination))
        assert reply is not None
        header = parse_long_header(reply, 0, len(reply))
        assert header.type is PacketType.RETRY
        return header.token, header.source


def close_code(reply: bytes | None, destination: bytes) -> int:
    """The code of the CONNECTION_CLOSE in a server's Initial packet."""
    assert reply is not None
    header = parse_long_header(reply, 0, len(reply))
    assert header.type is PacketType.INITIAL
    opener = make_opener(VERSION_1, CipherSuite.AES_128_GCM_SHA256, initial_secrets(VERSION_1, destination)[1])
    opened = opener.open_long(reply, 0, header, -1)
    assert opened is not None
    _, frame = frames.decode_frame(Reader(opened[1]))
    assert isinstance(frame, frames.ConnectionClose)
    return frame.code


class TestRetryTokens:  # 12
    def test_12_a_good_one_is_let_in(self) -> None:
        server = Server()
        token, source = server.retry()
        assert server.tell(initial(source, token)) is None
        assert len(server.endpoint) == 1

    @pytest.mark.parametrize(
        "fault", ["forged", "cut", "expired", "from the future", "other port", "other address", "other connection ID"]
    )
    def test_12_any_other_is_refused_by_name(self, fault: str) -> None:
        server = Server()
        token, destination = server.retry()
        address: tuple[object, ...] = CLIENT_ADDRESS
        if fault == "forged":
            token = token[:-1] + bytes((token[-1] ^ 1,))
        elif fault == "cut":
            token = token[:20]
        elif fault == "expired":
            server.time += 11
        elif fault == "from the future":
            server.time -= 11
        elif fault == "other port":
            address = (CLIENT_ADDRESS[0], 9)
        elif fault == "other address":
            address = ("198.51.100.7", CLIENT_ADDRESS[1])
        else:
            destination = b"\x02" * 8
        reply = server.tell(initial(destination, token), address)
        assert close_code(reply, destination) == ErrorCode.INVALID_TOKEN
        assert len(server.endpoint) == 0

    def test_12_one_that_was_damaged_on_the_way_costs_the_client_nothing(self) -> None:
        server = Server()
        token, source = server.retry()
        packet = initial(source, token)
        at = packet.index(token) + len(token) // 2
        assert server.tell(packet[:at] + bytes((packet[at] ^ 1,)) + packet[at + 1 :]) is None
        assert server.endpoint.statistics.invalid_tokens == 1
        assert server.tell(packet) is None
        assert len(server.endpoint) == 1

    def test_12_a_client_whose_token_is_refused_ends_at_once(self) -> None:
        pair = Pair(retry=True, connect=False)
        pair.run(lambda: pair.back.count == 1)
        core = pair.client.core
        assert core is not None
        pair.links[None].address = ("198.51.100.7", 1)  # before the Retry is followed
        pair.run(lambda: core.closing is not None, limit_s=5.0)
        assert core.closing is not None
        assert core.closing.code == ErrorCode.INVALID_TOKEN

    def test_12_refusals_are_bounded(self) -> None:
        server = Server()
        token, destination = server.retry()
        packet = initial(destination, token[:-1] + bytes((token[-1] ^ 1,)))
        with bounded(steps=800_000, megabytes=0.5):
            answers = [server.tell(packet) for _ in range(1000)]
        assert 0 < sum(answer is not None for answer in answers) <= 100


class TestNewTokens:  # 12
    def token(self, pair: Pair) -> bytes:
        pair.run_for(1.0)
        (event,) = pair.client.of(ev.TokenReceived)
        assert isinstance(event, ev.TokenReceived)
        return event.token

    @pytest.mark.parametrize("fault", ["forged", "cut", "garbage", "long", "replayed"])
    def test_12_a_bad_one_counts_as_none(self, fault: str) -> None:
        pair = Pair(retry=True)
        token = self.token(pair)
        if fault == "forged":
            token = token[:-1] + bytes((token[-1] ^ 1,))
        elif fault == "cut":
            token = token[:3]
        elif fault == "garbage":
            token = b"\x01" + os.urandom(50)
        elif fault == "long":
            token = token + bytes(600)
        else:
            packet = initial(b"\x03" * 8, token)
            pair.endpoint.receive(packet, len(packet), CLIENT_ADDRESS, pair.now)
            assert not pair.endpoint.replies
        known = len(pair.endpoint)
        packet = initial(b"\x04" * 8, token)
        pair.endpoint.receive(packet, len(packet), CLIENT_ADDRESS, pair.now)
        assert len(pair.endpoint) == known
        (reply,) = pair.endpoint.replies
        assert parse_long_header(reply.data, 0, len(reply.data)).type is PacketType.RETRY

    def test_12_a_replay_by_another_client_gains_nothing(self) -> None:
        store, stolen = MemorySessionStore(), MemorySessionStore()
        pair = Pair(retry=True, server=KnownServer(store, SERVER))
        token = self.token(pair)
        stolen.save_token(SERVER, token)
        thief = Pair(endpoint=pair.endpoint, now=pair.now, seed=5, connect=False, server=KnownServer(stolen, SERVER))
        thief.links[None].address = ("198.51.100.7", 1)
        thief.run(lambda: bool(thief.client.of(ev.HandshakeCompleted)))
        assert thief.client.core is not None
        assert thief.client.core.peer_parameters.retry_source_connection_id is not None


class TestClients:
    def test_a_server_initial_with_a_token_is_dropped(self) -> None:
        pair = Pair(connect=False)
        core = pair.client.core
        assert core is not None
        hello = core.transmit(pair.now)
        assert hello is not None
        header = parse_long_header(hello.data, 0, len(hello.data))
        secret = initial_secrets(VERSION_1, header.destination)[1]
        for token, heard in ((b"token", False), (b"", True)):
            sealer = make_sealer(VERSION_1, CipherSuite.AES_128_GCM_SHA256, secret)
            packet = encode_long_header(PacketType.INITIAL, VERSION_1, header.source, b"serverid", 0, 2, 36, token)
            data = sealer.seal_long(packet, 0, 2, b"\x01".ljust(20, b"\0"))
            core.receive(data, len(data), pair.now)
            assert core.heard is heard


class TestTokensThatAreGoodOnce:
    def test_are_good_for_nobody_once_too_many_were_used(self) -> None:
        """More is not remembered, and what is not remembered could be used again."""
        now = datetime.now(UTC)
        tokens = Tokens(SealingKeys([b"k" * 32]), random=os.urandom, clock=lambda: now)
        good = 0
        for _ in range(51_000):
            token = tokens.for_later(CLIENT_ADDRESS, VERSION_1)
            good += tokens.judge(token, CLIENT_ADDRESS, b"12345678", VERSION_1).validated
        assert good == 50_000
