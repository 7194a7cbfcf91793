"""Demultiplexing of whole buffers: whom the datagrams that arrive together are for."""

import os
from datetime import UTC, datetime

import pytest

from fairway.quic import Connection, Endpoint, Phase
from fairway.quic.endpoint.draining import DrainingIds
from fairway.tls import ClientConfig, ServerConfig, self_signed_identity

ADDRESS = ("192.0.2.1", 1)
CLIENT = ClientConfig("localhost", ("test",), verify=False)
SERVER = ServerConfig((self_signed_identity(["localhost"]),), ("test",))


def clock() -> datetime:
    return datetime.now(UTC)


def endpoint() -> Endpoint:
    return Endpoint(SERVER, random=os.urandom, clock=clock)


def hello() -> tuple[bytes, int]:
    """A ClientHello, which takes two datagrams, and the length of each."""
    out = Connection.client(CLIENT, now=1.0, random=os.urandom, clock=clock).transmit(1.0)
    assert out is not None
    assert len(out.data) == 2 * out.segment
    return out.data, out.segment


class TestBuffers:
    def test_both_halves_of_a_client_hello_in_one_buffer_make_one_connection(self) -> None:
        met = endpoint()
        (connection,) = met.receive(*hello(), ADDRESS, 1.0)
        assert len(met) == 1
        answer = connection.transmit(1.0)
        assert answer is not None
        assert len(answer.data) > answer.segment  # the whole flight, certificate included

    def test_clients_whose_datagrams_arrive_in_one_buffer_are_told_apart(self) -> None:
        met = endpoint()
        (one, segment), (other, _) = hello(), hello()
        mixed = one[:segment] + other[:segment] + one[segment:] + other[segment:]
        first, second = met.receive(mixed, segment, ADDRESS, 1.0)
        assert first is not second
        for connection in (first, second):
            assert connection.transmit(1.0) is not None

    @pytest.mark.parametrize("length", [1, 4, 5, 6, 7, 13, 14, 20])
    def test_what_only_begins_like_a_long_header_is_ignored(self, length: int) -> None:
        met = endpoint()
        data, segment = hello()
        assert met.receive(data[:length] * 2, length, ADDRESS, 1.0) == []
        assert len(met) == 0
        assert len(met.receive(data[:segment] + data[:length], segment, ADDRESS, 1.0)) == 1


class TestDraining:
    """What is left of a connection that its peer closed: its IDs, for as long as late packets may come."""

    def test_late_packets_are_dropped_though_the_connection_was_let_go(self) -> None:
        met = endpoint()
        client = Connection.client(CLIENT, now=1.0, random=os.urandom, clock=clock)
        first = client.transmit(1.0)
        assert first is not None
        (server,) = met.receive(first.data, first.segment, ADDRESS, 1.0)
        while client.phase is not Phase.CONFIRMED:
            while (out := server.transmit(1.0)) is not None:
                client.receive(out.data, out.segment, 1.0)
            while (out := client.transmit(1.0)) is not None:
                met.receive(out.data, out.segment, ADDRESS, 1.0)
        stream = client.open_stream()
        assert stream is not None
        client.write(stream, bytes(100))
        out = client.transmit(1.0)
        assert out is not None
        late = bytes((out.data[0] | 0x40,)) + out.data[1:]  # the fixed bit is as chance will have it
        client.close(1.0)
        close = client.transmit(1.0)
        assert close is not None
        assert met.receive(close.data, close.segment, ADDRESS, 1.0) == [server]
        assert server.phase is Phase.DRAINING
        over = server.next_timeout()
        assert over is not None
        met.forget(server)
        assert len(met) == 0
        for data, segment in ((late, len(late)), (first.data, first.segment)):  # no reset, no newcomer
            assert met.receive(data, segment, ADDRESS, 1.1) == []
        assert not met.replies
        met.receive(*hello(), ADDRESS, over - 0.001)
        assert met.receive(late, len(late), ADDRESS, over - 0.001) == []
        assert not met.replies
        met.receive(*hello(), ADDRESS, over)
        met.receive(late, len(late), ADDRESS, over)
        assert len(met.replies) == 1  # a stateless reset, as for anybody's

    def test_the_ids_kept_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fairway.quic.endpoint.draining.MAX_DRAINING_IDS", 3)
        ids = DrainingIds()
        ids.add([b"1", b"2"], 5.0)
        ids.add([b"3", b"4"], 2.0)
        assert len(ids) == 3
        assert b"1" not in ids
        ids.expire(3.0)
        assert len(ids) == 3  # an older one has longer to go
        ids.expire(5.0)
        assert not len(ids)
