"""Key updates (RFC 9001 section 6): by hand, both ends follow, old packets are still read for a while."""

from __future__ import annotations

import pytest
from quic_pair import Pair, SimulatedPath

from fairway.quic import Connection, Phase
from fairway.quic.configuration import QuicConfiguration
from fairway.quic.packets.headers import VERSION_2

DELAY = 0.02


def connected(**options: object) -> tuple[Pair, Connection, Connection]:
    pair = Pair(there=SimulatedPath(delay=DELAY), **options)  # type: ignore[arg-type]
    client, server = pair.client.core, pair.server.core
    assert client is not None
    assert server is not None
    pair.run(lambda: client.phase is Phase.CONFIRMED)
    return pair, client, server


def updates(core: Connection) -> int:
    return int(core.statistics()["key_updates"])


def say(pair: Pair, data: bytes) -> int:
    """The client sends one stream; nothing has left yet."""
    assert pair.client.core is not None
    stream_id = pair.client.core.open_stream(unidirectional=True)
    assert stream_id is not None
    pair.client.core.write(stream_id, data, end=True)
    return stream_id


@pytest.mark.parametrize("versions", [None, (VERSION_2,)])
@pytest.mark.parametrize("by_client", [True, False])
def test_the_other_end_follows(by_client: bool, versions: tuple[int, ...] | None) -> None:
    pair, client, server = connected(configuration=QuicConfiguration(versions=versions))
    for turn in range(1, 6):
        assert (client if by_client else server).update_keys(pair.now)
        (client if by_client else server).ping()
        pair.run_for(1.0)
        assert (updates(client), updates(server)) == (turn, turn)
        stream_id = say(pair, b"with new keys" * 500)
        pair.run(lambda stream_id=stream_id: stream_id in pair.server.ended)  # type: ignore[misc]


def test_another_one_waits_until_the_last_is_acknowledged() -> None:
    pair, client, _ = connected()
    assert client.update_keys(pair.now)
    assert not client.update_keys(pair.now)
    client.ping()
    pair.run_for(0.1)
    assert client.update_keys(pair.now)


def test_not_before_the_handshake_is_confirmed() -> None:
    pair = Pair(connect=False)
    assert pair.client.core is not None
    assert not pair.client.core.update_keys(pair.now)


@pytest.mark.parametrize(("later", "read"), [(0.05, True), (5.0, False)])
def test_a_packet_of_the_old_phase_is_read_for_a_while(later: float, read: bool) -> None:
    pair, client, server = connected()
    pair.run_for(1.0)
    held: list[bytes] = []
    pair.there.drop = lambda index, data: held.append(data) is None
    stream_id = say(pair, b"overtaken")
    pair.settle()
    pair.there.drop = None
    (overtaken,) = held
    assert client.update_keys(pair.now)
    client.ping()
    pair.there.drop = lambda index, data: index > first  # what repeats the data is lost
    first = pair.there.count
    pair.run_for(later)
    assert updates(server) == 1
    before = server.statistics()["packets_received"]
    pair.inject(overtaken, to_server=True)
    assert (stream_id in pair.server.ended) is read
    assert (server.statistics()["packets_received"] > before) is read


def test_both_at_once_is_one_update() -> None:
    pair, client, server = connected()
    assert client.update_keys(pair.now)
    assert server.update_keys(pair.now)
    client.ping()
    server.ping()
    pair.run_for(1.0)
    assert (updates(client), updates(server)) == (1, 1)
    stream_id = say(pair, bytes(50_000))
    pair.run(lambda: stream_id in pair.server.ended)
