"""Whole connections with real datagrams that were changed, and with any frames of a peer that has the keys.

Nothing but closing may come of it: no exception out of `Connection` or `Endpoint`, no endless work.
"""

from __future__ import annotations

from typing import Any

from fuzzing import Mutation, fuzz, mutate, mutation, varints
from hypothesis import example, given
from hypothesis import strategies as st
from quic_attacker import Attacker, FalseServer
from quic_pair import CLIENT_ADDRESS, Pair, SimulatedPath

from fairway.quic import (
    ClosedBy,
    Connection,
    ConnectionClosed,
    ErrorCode,
    Phase,
    QuicConfiguration,
    UsageError,
    ack_frames,
    frames,
)
from fairway.quic.packets.headers import (
    SUPPORTED_VERSIONS,
    PacketType,
    encode_retry,
    encode_version_negotiation,
    parse_long_header,
)
from fairway.quic.packets.protection import retry_tag
from fairway.wire import encode_varint

DATA = bytes(range(256)) * 40


def legal(connection: Connection) -> None:
    """Whatever came, the connection is in order."""
    closing = connection.closing
    assert (closing is None) == (connection.phase in (Phase.HANDSHAKE, Phase.COMPLETE, Phase.CONFIRMED))
    if closing is not None and closing.by is ClosedBy.LOCAL and not closing.application:
        assert closing.code in ErrorCode.__members__.values() or 0x100 <= closing.code < 0x200
        assert closing.code != ErrorCode.INTERNAL_ERROR
        assert closing.reason
    statistics = connection.statistics()
    assert statistics["bytes_in_flight"] >= 0
    assert statistics["streams"] <= 2 * 128 + 8


# Without keys: what is changed on the way is lost, and nothing more


class ChangingPath(SimulatedPath):
    """Changes the datagrams with these indices."""

    def __init__(self, changes: dict[int, list[Mutation]]) -> None:
        super().__init__()
        self.changes = changes

    def deliveries(self, datagram: bytes, now: float, rng: Any) -> list[tuple[float, bytes]]:
        index = self.count
        arrivals = super().deliveries(datagram, now, rng)
        for change in self.changes.get(index, ()):
            arrivals = [(at, mutate(data, *change)) for at, data in arrivals]
        return [(at, data) for at, data in arrivals if data]


plans = st.dictionaries(st.integers(0, 20), st.lists(mutation, min_size=1, max_size=3), max_size=8)


@given(there=plans, back=plans)
@fuzz
def test_changed_datagrams_of_a_handshake_and_a_transfer_are_only_lost(
    there: dict[int, list[Mutation]], back: dict[int, list[Mutation]]
) -> None:
    pair = Pair(there=ChangingPath(there), back=ChangingPath(back))
    assert pair.client.core is not None
    stream_id = pair.client.core.open_stream()
    assert stream_id is not None
    pair.client.core.write(stream_id, DATA, end=True)
    pair.run(lambda: stream_id in pair.server.ended, limit_s=300, max_steps=20_000)
    assert bytes(pair.server.received[stream_id]) == DATA
    assert pair.client.core.closing is None


@given(
    parts=st.lists(st.one_of(st.binary(max_size=1300), mutation), min_size=1, max_size=5),
    segment=st.integers(1, 1500),
    kind=st.sampled_from([bytes, bytearray, memoryview]),
    first=st.sampled_from(["new", "connection", "original"]),
)
@fuzz
def test_any_buffer_cut_into_any_datagrams(parts: list[bytes | Mutation], segment: int, kind: type, first: str) -> None:
    attacker = Attacker()
    destination = {"new": b"", "connection": b"\x40" + attacker.server_id, "original": b"\x40" + attacker.first_id}
    genuine = attacker.packet(frames.Ping().encode() * 30)
    buffer = destination[first] + b"".join(
        mutate(genuine, *part) if isinstance(part, tuple) else part for part in parts
    )
    if not buffer:
        return
    attacker.pair.endpoint.receive(kind(buffer), segment, CLIENT_ADDRESS, attacker.pair.now)
    attacker.server.receive(kind(buffer), segment, attacker.pair.now)
    attacker.pair.run_for(0.1)
    legal(attacker.server)
    assert attacker.server.closing is None


@given(
    original=st.one_of(st.just(None), st.binary(max_size=20)),
    destination=st.one_of(st.just(None), st.binary(max_size=20)),
    source=st.binary(max_size=20),
    token=st.binary(max_size=600),
    versions=st.lists(st.integers(0, (1 << 32) - 1), max_size=4),
    mutations=st.lists(mutation, max_size=2),
    negotiation=st.booleans(),
)
@fuzz
def test_a_client_meets_any_retry_and_any_version_negotiation(
    original: bytes | None,
    destination: bytes | None,
    source: bytes,
    token: bytes,
    versions: list[int],
    mutations: list[Mutation],
    negotiation: bool,
) -> None:
    pair = Pair(connect=False)
    client = pair.client.core
    assert client is not None
    out = client.transmit(pair.now)
    assert out is not None
    header = parse_long_header(out.data, 0, len(out.data))
    ours = header.source if destination is None else destination
    first = header.destination if original is None else original
    if negotiation:
        packet = encode_version_negotiation(ours, first, tuple(versions))
    else:
        packet = encode_retry(SUPPORTED_VERSIONS[0], ours, source, token)
        packet += retry_tag(SUPPORTED_VERSIONS[0], first, packet)
    for change in mutations:
        packet = mutate(packet, *change)
    if packet:
        client.receive(packet, len(packet), pair.now)
    legal(client)
    assert client.closing is None or client.closing.by is ClosedBy.VERSION
    pair.run_for(1.0)
    legal(client)


# With keys

small = st.binary(max_size=40)
stream_ids = st.one_of(st.sampled_from([0, 4]), st.integers(0, 24), varints)
sizes = st.sampled_from([0, 5, 10])  # few, so that ends meet
connection_ids = st.binary(min_size=1, max_size=20)
ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=8)


def acknowledgement(steps: list[tuple[int, int]], delay: int) -> frames.Ack:
    found, at = [], 0
    for gap, length in steps:
        found.append((at + gap, at + gap + length))
        at += gap + length + 2
    return ack_frames.Ack(tuple(reversed(found)), delay)


any_frame = st.one_of(
    st.builds(frames.Padding, st.integers(1, 50)),
    st.just(frames.Ping()),
    st.builds(acknowledgement, ranges, varints),
    st.builds(frames.ResetStream, stream_ids, varints, st.one_of(sizes, varints)),
    st.builds(frames.ResetStreamAt, stream_ids, st.integers(0, 2), st.one_of(sizes, varints), sizes),
    st.builds(frames.StopSending, stream_ids, varints),
    st.builds(frames.Crypto, st.one_of(st.just(0), st.integers(0, 1 << 17)), small),
    st.builds(frames.NewToken, small),
    st.builds(frames.Stream, st.sampled_from([0, 4]), sizes, sizes.map(bytes), st.booleans(), st.just(True)),
    st.builds(frames.Stream, stream_ids, st.one_of(st.integers(0, 300), varints), small, st.booleans(), st.booleans()),
    st.builds(frames.MaxData, varints),
    st.builds(frames.MaxStreamData, stream_ids, varints),
    st.builds(frames.MaxStreams, st.integers(0, 1 << 60), st.booleans()),
    st.builds(frames.DataBlocked, varints),
    st.builds(frames.StreamDataBlocked, stream_ids, varints),
    st.builds(frames.StreamsBlocked, st.integers(0, 1 << 60), st.booleans()),
    st.builds(frames.NewConnectionId, st.integers(0, 30), st.integers(0, 30), connection_ids, st.just(bytes(16))),
    st.builds(frames.RetireConnectionId, st.integers(0, 30)),
    st.builds(frames.PathChallenge, st.binary(min_size=8, max_size=8)),
    st.builds(frames.PathResponse, st.binary(min_size=8, max_size=8)),
    st.just(frames.HandshakeDone()),
    st.builds(frames.Datagram, st.binary(max_size=120), st.booleans()),
).map(lambda frame: encoded(frame))
closing_frame = st.builds(frames.ConnectionClose, varints, varints, small, st.booleans()).map(lambda f: f.encode())
payloads = st.lists(
    st.one_of(any_frame, any_frame, any_frame, closing_frame, st.binary(max_size=30)), min_size=1, max_size=6
).map(b"".join)


def encoded(frame: frames.Frame) -> bytes:
    """The frame's bytes; a PING instead of one whose offsets do not exist."""
    if isinstance(frame, frames.Stream) and frame.offset + len(frame.data) >= 1 << 62:
        return b"\x01"
    return frame.encode()


actions = st.sampled_from(
    ["nothing", "wait", "open", "write", "end", "reset", "stop", "update", "read", "datagrams", "close"]
)
# Both take datagrams, of 100 bytes at most: some frames are too large.
DATAGRAMS = QuicConfiguration(handshake_timeout_s=120.0, max_datagram_frame_size=100)


def act(connection: Connection, action: str, attacker: Attacker | FalseServer) -> None:
    """What an application does meanwhile."""
    now = attacker.pair.now
    try:
        if action == "wait":
            attacker.pair.run_for(0.5)
        elif action == "open":
            connection.open_stream(unidirectional=now % 2 < 1)
        elif action in ("write", "end"):
            connection.write(int(not attacker.is_client) ^ 1, DATA, end=action == "end")
        elif action == "reset":
            connection.reset(0, 1)
        elif action == "stop":
            connection.stop_sending(0, 1)
        elif action == "update":
            connection.update_keys(now)
        elif action == "read":
            connection.read(0)
        elif action == "datagrams":
            for size in (0, 99, 40, 98, 97):
                connection.send_datagram(bytes(size))
        elif action == "close":
            connection.close(now, 5)
    except (UsageError, ConnectionClosed):
        pass


packets = st.lists(
    st.tuples(payloads, st.one_of(st.just(None), st.integers(1000, 1100), st.integers(0, 1 << 30)), actions),
    min_size=1,
    max_size=12,
)


@given(packets=packets, from_client=st.booleans(), together=st.booleans())
@fuzz
@example(packets=[(b"\x02" + encode_varint(3) + b"\0\x05\0" * 2, None, "nothing")], from_client=True, together=False)
def test_any_frames_of_a_peer_that_has_the_keys(
    packets: list[tuple[bytes, int | None, str]], from_client: bool, together: bool
) -> None:
    attacker: Attacker | FalseServer = Attacker(DATAGRAMS) if from_client else FalseServer(DATAGRAMS)
    for payload, number, action in packets:
        if together:
            attacker.push(payload)
        else:
            attacker.send(payload, number)
        act(attacker.victim, action, attacker)
        legal(attacker.victim)
    attacker.pair.run_for(3.0)
    legal(attacker.victim)


@given(
    packets=st.lists(st.tuples(payloads, st.integers(0, 50)), min_size=1, max_size=6),
    from_client=st.booleans(),
    handshake=st.booleans(),
)
@fuzz
def test_any_frames_in_the_packets_of_a_handshake(
    packets: list[tuple[bytes, int]], from_client: bool, handshake: bool
) -> None:
    attacker: Attacker | FalseServer = Attacker(connect=False) if from_client else FalseServer(connect=False)
    pair = attacker.pair
    if from_client:
        pair.run(lambda: pair.client.core is not None and pair.client.core.handshake_complete)
        attacker.take_over()
        pair.server.core = pair.endpoint.connections()[0]
    else:
        pair.settle()
        attacker.take_over()
        attacker.server_id = b"a server"
        handshake = False
    for payload, number in packets:
        kind = PacketType.HANDSHAKE if handshake else PacketType.INITIAL
        pair.inject(attacker.long_packet(kind, payload, number), to_server=from_client)
        legal(attacker.victim)
    pair.run_for(3.0)
    legal(attacker.victim)
