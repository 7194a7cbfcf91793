"""Demultiplexing of whole buffers: whom the datagrams that arrive together are for."""

import os
from datetime import UTC, datetime

import pytest

from fairway.quic import Connection, Endpoint
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
