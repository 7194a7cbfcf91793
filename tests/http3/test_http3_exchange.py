"""Requests and responses between our own two ends."""

from __future__ import annotations

from http3_pair import GET, OK, POST, HttpPair
from quic_pair import SimulatedPath, identity

from fairway.http3 import (
    InformationalReceived,
    RequestReceived,
    ResponseReceived,
    SettingsReceived,
    TrailersReceived,
)
from fairway.quic import KnownServer, MemorySessionStore
from fairway.quic.events import EarlyDataAccepted, HandshakeCompleted
from fairway.tls import ServerConfig, Tickets


def test_settings_arrive_on_both_sides() -> None:
    pair = HttpPair()
    for side in (pair.client, pair.server):
        settings = pair.first(side, SettingsReceived).settings
        assert settings.qpack_max_table_capacity == 4096
        assert settings.max_field_section_size == 65536


def test_a_request_without_a_body_ends_with_its_fields() -> None:
    pair = HttpPair()
    stream_id = pair.request(GET)
    assert pair.first(pair.server, RequestReceived) == RequestReceived(stream_id, GET, ended=True)


def test_a_response_brings_fields_and_body() -> None:
    pair = HttpPair()
    for count in range(3):  # the second and third use the dynamic table
        response, body = pair.exchange([*GET, (b"user-agent", b"x")], b"hello %d" % count)
        assert response.fields == OK
        assert body == b"hello %d" % count


def test_a_body_of_many_frames_arrives_whole_and_trailers_follow_it() -> None:
    pair = HttpPair()
    stream_id = pair.request(POST, end=False)
    sent = bytes(range(256)) * 20_000
    at = 0
    received = bytearray()

    def turn() -> None:
        nonlocal at
        if at < len(sent):
            at += pair.client_http.send_data(stream_id, sent[at : at + 100_000])
            if at == len(sent):
                pair.client_http.send_trailers(stream_id, [(b"x-sum", b"1")])
        while piece := pair.server_http.read(stream_id, 50_000):
            received.extend(piece)

    pair.on_turn = turn
    pair.run(lambda: pair.server_http.at_end(stream_id))
    assert bytes(received) == sent
    assert pair.first(pair.server, TrailersReceived).fields == [(b"x-sum", b"1")]


def test_interim_responses_come_before_the_final_one() -> None:
    pair = HttpPair()
    stream_id = pair.request()
    pair.server_http.respond(stream_id, [(b":status", b"103"), (b"link", b"</x>; rel=preload")])
    pair.server_http.respond(stream_id, OK, end=True)
    pair.first(pair.client, ResponseReceived)
    assert [event.fields[0][1] for event in pair.client.events if hasattr(event, "fields")] == [b"103", b"200"]
    assert len(pair.client.of(InformationalReceived)) == 1


def test_what_early_answers_may_refer_to_goes_with_them() -> None:
    """A server that may answer before the handshake is complete sends its settings and QPACK's streams then too."""
    store = MemorySessionStore()
    key = ("localhost", 443, ("h3",))
    tls = ServerConfig((identity(),), ("h3",), tickets=Tickets(early_data=True))
    path = SimulatedPath(delay=0.05)
    first = HttpPair(server_tls=tls, path=path, server=KnownServer(store, key))
    first.run_for(1.0)
    again = HttpPair(
        server_tls=tls, path=path, server=KnownServer(store, key), early_data=True, endpoint=first.endpoint,
        now=first.now, seed=1,
    )  # fmt: skip
    assert again.client.of(EarlyDataAccepted)
    when = again.told
    assert when["client", SettingsReceived] - when["client", HandshakeCompleted] < 0.01
    assert first.told["client", SettingsReceived] - first.told["client", HandshakeCompleted] > 0.09
