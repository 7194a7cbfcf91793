"""The lives of requests: priorities, shutting down, giving up, and what the caller may not do."""

from __future__ import annotations

from typing import Any

import pytest
from http3_pair import GET, OK, POST, HttpPair
from quic_pair import SimulatedPath
from raw_peers import SETTINGS, RawPeer, data, headers

from fairway.http3 import (
    BodyReadable,
    GoawayReceived,
    H3Code,
    Priority,
    PriorityUpdated,
    ReadingStopped,
    RequestReceived,
    ResponseReceived,
    StreamAborted,
    frames,
)
from fairway.quic import ConnectionClosed, UsageError
from fairway.quic.events import ConnectionTerminated
from fairway.wire import decode_varint, encode_varint


class TestPriorities:  # RFC 9218
    @pytest.mark.parametrize(
        ("value", "priority"),
        [
            (b"", Priority()),
            (b"u=0", Priority(0)),
            (b"u=7, i", Priority(7, True)),
            (b"i=?1,u=5", Priority(5, True)),
            (b"u=5;x=y, i=?0", Priority(5)),
            (b"u=8", Priority()),
            (b"u=-1", Priority()),
            (b"u=high", Priority()),
            (b"i=1", Priority()),
            (b"nonsense, u=2", Priority(2)),
            (b"=;=,,\xff", Priority()),
        ],
    )
    def test_what_cannot_be_read_is_left_out(self, value: bytes, priority: Priority) -> None:
        assert Priority.parse(value) == priority

    def order(self, pair: HttpPair, requests: list[bytes | None], updates: dict[int, bytes] | None = None) -> list[int]:
        """Ask for so many large bodies at once; the order in which they are complete."""
        done: list[int] = []
        streams = []
        for value in requests:
            fields = GET if value is None else [*GET, (b"priority", value)]
            streams.append(pair.request(fields))
        for index, value in (updates or {}).items():
            pair.client_http.prioritize(streams[index], value)
        if updates:
            pair.run(lambda: len(pair.server.of(PriorityUpdated)) == len(updates))
        for stream_id in streams:
            pair.server_http.respond(stream_id, OK)
            assert pair.server_http.send_data(stream_id, bytes(200_000), end=True) == 200_000

        def turn() -> None:
            for stream_id in streams:
                pair.client_http.read(stream_id)
                if stream_id not in done and pair.client_http.at_end(stream_id) and pair.client.of(ResponseReceived):
                    done.append(stream_id)

        pair.on_turn = turn
        pair.run(lambda: len(done) == len(streams))
        return [streams.index(stream_id) for stream_id in done]

    def test_the_urgent_response_is_complete_first(self) -> None:
        pair = HttpPair(path=SimulatedPath(rate=1e6))
        assert self.order(pair, [b"u=5", b"u=3", b"u=1", None]) == [2, 1, 3, 0]

    def test_a_later_update_changes_the_order(self) -> None:
        pair = HttpPair(path=SimulatedPath(rate=1e6))
        assert self.order(pair, [b"u=1", b"u=2", b"u=3"], {2: b"u=0", 0: b"u=6"}) == [2, 1, 0]

    def test_an_update_may_come_before_its_request_and_outweighs_the_field(self) -> None:
        peer = RawPeer(client=True)
        update = frames.PriorityUpdate(0, b"u=1, i").encode()
        peer.write(peer.control, update + frames.PriorityUpdate(4, b"u=7").encode())
        streams = [peer.request(headers([*GET, (b"priority", value)]), end=True) for value in (b"u=6", b"u=0")]
        for stream_id in streams:
            peer.http.respond(stream_id, OK)
            peer.http.send_data(stream_id, bytes(5000), end=True)
        peer.pair.run_for(1)
        first = [peer.side.arrivals[stream_id][0] for stream_id in streams]
        assert first[0] <= first[1]
        assert not peer.tested.of(PriorityUpdated)
        assert peer.code is None

    def test_updates_for_more_streams_than_are_kept_are_forgotten_without_an_error(self) -> None:
        peer = RawPeer(client=True)
        content = b"".join(frames.PriorityUpdate(4 * index, b"u=1").encode() for index in range(128))
        peer.write(peer.control, content)
        assert peer.code is None

    def test_only_a_client_asks_and_only_for_requests(self) -> None:
        pair = HttpPair()
        with pytest.raises(UsageError, match="by itself"):
            pair.server_http.prioritize(0, b"u=1")
        with pytest.raises(UsageError, match="is no request"):
            pair.client_http.prioritize(2, b"u=1")


class TestShuttingDown:  # RFC 9114 section 5.2
    def test_requests_from_the_identifier_on_come_back_as_rejected(self) -> None:
        peer = RawPeer(client=False)
        streams = [peer.asked(GET) for _ in range(3)]
        peer.write(peer.control, frames.Goaway(streams[1]).encode())
        assert peer.tested.of(GoawayReceived) == [GoawayReceived(streams[1])]
        assert peer.tested.of(StreamAborted) == [
            StreamAborted(stream_id, H3Code.H3_REQUEST_REJECTED) for stream_id in streams[1:]
        ]
        assert peer.stops() == dict.fromkeys(streams[1:], H3Code.H3_REQUEST_CANCELLED), "only servers reject"
        peer.write(streams[0], headers(OK), end=True)
        assert [event.stream_id for event in peer.tested.of(ResponseReceived)] == [streams[0]]  # type: ignore[union-attr]
        with pytest.raises(UsageError, match="shuts down"):
            peer.http.request(GET)

    def test_a_graceful_end_loses_nothing(self) -> None:
        pair = HttpPair()
        first = pair.request()
        pair.server_http.goaway(final=False)
        second = pair.client_http.request(GET, end=True)
        assert second is not None
        pair.first(pair.client, GoawayReceived)
        assert not pair.client.of(StreamAborted)
        pair.server_http.goaway()
        pair.server_http.goaway(final=False)  # never goes up again
        pair.run_for(0.2)
        assert [event.identifier for event in pair.client.of(GoawayReceived)] == [(1 << 62) - 4, second + 4]  # type: ignore[union-attr]
        for stream_id in (first, second):
            pair.server_http.respond(stream_id, OK, end=True)
        pair.run(lambda: len(pair.client.of(ResponseReceived)) == 2)

    def test_a_server_refuses_what_comes_after_its_last_request(self) -> None:
        peer = RawPeer(client=True)
        peer.request(headers(GET), end=True)
        peer.http.goaway()
        late = peer.request(headers(POST))
        assert peer.resets() == {late: H3Code.H3_REQUEST_REJECTED}
        assert peer.stops() == {late: H3Code.H3_REQUEST_REJECTED}
        assert len(peer.tested.of(RequestReceived)) == 1

    def test_a_client_says_goodbye_too(self) -> None:
        pair = HttpPair()
        pair.client_http.goaway()
        assert pair.first(pair.server, GoawayReceived) == GoawayReceived(0)
        assert pair.client_http.going_away
        assert pair.server_http.going_away


class TestGivingUp:  # RFC 9114 section 4.1.1
    @pytest.mark.parametrize(
        ("how", "code"),
        [
            ("reset", H3Code.H3_REQUEST_REJECTED),
            ("stopped", H3Code.H3_REQUEST_CANCELLED),  # QUIC answers with the client's code (RFC 9000 section 3.5)
        ],
    )
    def test_a_request_given_up_before_it_arrived_is_never_heard_of(self, how: str, code: H3Code) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.request(headers(GET)[:5])
        if how == "reset":
            peer.core.reset(stream_id, H3Code.H3_REQUEST_CANCELLED)
        else:
            peer.core.stop_sending(stream_id, H3Code.H3_REQUEST_CANCELLED)
        peer.pair.run_for(0.1)
        assert peer.http.is_over(stream_id)
        told = [event for event in peer.tested.events if getattr(event, "stream_id", None) == stream_id]
        assert told == []
        assert peer.resets() == {stream_id: code}
        assert peer.code is None

    def test_a_client_that_gives_up_is_told_of(self) -> None:
        pair = HttpPair()
        stream_id = pair.request(POST, b"half", end=False)
        pair.client_http.abort(stream_id)
        aborted = pair.first(pair.server, StreamAborted)
        stopped = pair.first(pair.server, ReadingStopped)
        assert aborted == StreamAborted(stream_id, H3Code.H3_REQUEST_CANCELLED)
        assert stopped == ReadingStopped(stream_id, H3Code.H3_REQUEST_CANCELLED)
        assert pair.server_http.is_over(stream_id)
        assert not pair.server_http.can_send(stream_id)
        assert pair.server_http.read(stream_id) == b""
        pair.server_http.abort(stream_id)
        pair.server_http.stop_reading(stream_id)

    @pytest.mark.parametrize("code", [0, 0x1F * 9 + 0x21, 0x0110, (1 << 62) - 1])
    def test_a_code_that_nobody_knows_or_expects_says_no_more_than_no_error(self, code: int) -> None:  # section 8
        peer = RawPeer(client=True)
        body, answer = (peer.request(headers(POST)) for _ in range(2))
        peer.core.reset(body, code)
        peer.core.stop_sending(answer, code)
        peer.pair.run_for(0.1)
        assert peer.tested.of(StreamAborted) == [StreamAborted(body, code)]
        assert peer.tested.of(ReadingStopped) == [ReadingStopped(answer, code)]
        peer.http.respond(body, OK, end=True)
        assert peer.code is None

    def test_a_body_that_was_cut_never_looks_whole(self) -> None:
        pair = HttpPair()
        stream_id = pair.request()
        pair.server_http.respond(stream_id, OK, data=b"half")
        pair.first(pair.client, ResponseReceived)
        assert pair.client_http.read(stream_id) == b"half"
        assert not pair.client_http.at_end(stream_id)
        pair.server_http.abort(stream_id, H3Code.H3_INTERNAL_ERROR)
        assert pair.first(pair.client, StreamAborted).code == H3Code.H3_INTERNAL_ERROR

    def test_events_of_streams_that_are_over_are_not_told(self) -> None:
        pair = HttpPair()
        stream_id = pair.request(POST, end=False)
        pair.server_http.abort(stream_id)
        pair.client_http.send_data(stream_id, b"x" * 50_000, end=True)
        before = len(pair.server.of(BodyReadable))
        pair.run_for(1)
        assert len(pair.server.of(BodyReadable)) == before
        assert pair.server_http.read(stream_id) == b""

    def test_streams_without_a_request_show_their_age(self) -> None:
        peer = RawPeer(client=True)
        old = peer.request(headers(GET)[:4])
        peer.pair.run_for(5)
        young = peer.request(b"\x01")
        assert peer.http.unfinished(peer.pair.now - 1) == [old]
        assert peer.http.unfinished(peer.pair.now) == [old, young]
        peer.http.abort(old, H3Code.H3_REQUEST_INCOMPLETE)
        peer.pair.run_for(0.1)
        assert peer.resets() == {old: H3Code.H3_REQUEST_INCOMPLETE}


class TestCallers:
    def test_mistakes_are_told_with_their_place(self) -> None:
        pair = HttpPair()
        client, server = pair.client_http, pair.server_http
        mistakes: list[tuple[str, Any]] = [
            ("a server sends no requests", lambda: server.request(GET)),
            (":path is missing", lambda: client.request(GET[:3])),
            ("no field name in lower case", lambda: client.request([*GET, (b"Host", b"x")])),
            ("HTTP/1.1", lambda: client.request([*GET, (b"connection", b"close")])),
            ("characters that no value has", lambda: client.request([*GET, (b"a", b"b\nc")])),
            ("both bytes", lambda: client.request([*GET, ("a", "b")])),  # type: ignore[list-item]
            ("both bytes", lambda: client.request(None)),  # type: ignore[arg-type]
            ("the peer takes 65536", lambda: client.request([*GET, (b"a", b"b" * 65_536)])),
            ("go with send_data", lambda: client.request(POST, data=bytes(65_537))),
            ("ended, reset or never begun", lambda: server.respond(400, OK)),
            ("ended, reset or never begun", lambda: client.send_data(400, b"x")),
        ]  # fmt: skip
        for text, mistake in mistakes:
            with pytest.raises(UsageError, match=text):
                mistake()
        stream_id = pair.request(POST, end=False)
        assert stream_id == 0, "no mistake took a stream"
        mistakes = [
            ("fields go before the body", lambda: server.send_data(stream_id, b"x")),
            ("trailers go after", lambda: server.send_trailers(stream_id, [])),
            (":status is missing", lambda: server.respond(stream_id, [(b"a", b"b")])),
            ("101", lambda: server.respond(stream_id, [(b":status", b"101")])),
            ("interim", lambda: server.respond(stream_id, [(b":status", b"103")], end=True)),
            ("among the trailers", lambda: client.send_trailers(stream_id, [(b"content-length", b"1")])),
        ]
        for text, mistake in mistakes:
            with pytest.raises(UsageError, match=text):
                mistake()
        server.respond(stream_id, OK, end=True)
        with pytest.raises(UsageError, match="ended"):
            server.respond(stream_id, OK)
        pair.first(pair.client, ResponseReceived)

    def test_a_connection_that_ended_says_so(self) -> None:
        pair = HttpPair()
        stream_id = pair.request(POST, b"body", end=False)
        pair.client_http.close(pair.now)
        pair.run_for(0.1)
        assert pair.server.events[-1] == pair.first(pair.server, ConnectionTerminated)
        with pytest.raises(ConnectionClosed):
            pair.client_http.request(GET)
        with pytest.raises(ConnectionClosed):
            pair.server_http.respond(stream_id, OK)
        assert pair.server_http.events(pair.now) == []
        assert pair.server_http.read(stream_id) in (b"body", b"")


class TestGrease:  # RFC 9114 sections 6.2.3, 7.2.4.1, 7.2.8
    def test_reserved_settings_go_out_always_reserved_frames_and_streams_sometimes(self) -> None:
        seen_frames = seen_streams = 0
        for seed in range(24):
            peer = RawPeer(client=True, seed=seed)
            kinds = {}
            for content in peer.side.received.values():
                kind, at = decode_varint(bytes(content), 0)
                kinds[kind] = bytes(content[at:])
            kind, length, after = frames.decode_header(kinds[frames.CONTROL_STREAM]) or (0, 0, 0)
            assert kind == frames.SETTINGS
            identifiers = []
            at = after
            while at < after + length:
                identifier, at = decode_varint(kinds[frames.CONTROL_STREAM], at)
                _, at = decode_varint(kinds[frames.CONTROL_STREAM], at)
                identifiers.append(identifier)
            assert [known for known in identifiers if known > 0x20 and (known - 0x21) % 0x1F == 0]
            rest = kinds[frames.CONTROL_STREAM][after + length :]
            if rest:
                assert ((frames.decode_header(rest) or (0,))[0] - 0x21) % 0x1F == 0
            seen_frames += bool(rest)
            seen_streams += any(kind > 3 and (kind - 0x21) % 0x1F == 0 for kind in kinds)
        assert 0 < seen_frames < 24
        assert 0 < seen_streams < 24

    def test_a_server_reads_requests_of_a_client_that_sends_no_settings_yet(self) -> None:
        peer = RawPeer(client=True, settings=None)
        stream_id = peer.request(headers(POST) + data(b"x"), end=True)
        assert peer.pair.read_all(peer.tested, stream_id) == b"x"
        peer.http.respond(stream_id, OK, end=True)
        peer.stream(encode_varint(0) + SETTINGS)
        assert peer.code is None
