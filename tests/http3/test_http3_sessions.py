"""WebTransport of draft-ietf-webtrans-http3-16: who may have sessions, and the limits within them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from http3_pair import OK, POST, HttpPair
from hypothesis import given
from hypothesis import strategies as st
from raw_peers import RawPeer, headers

from fairway.http3 import DEFAULT_SETTINGS, H3Code, Settings, capsules, frames
from fairway.http3 import events as ev
from fairway.http3.capsules import Capsule, CapsuleReader
from fairway.http3.errors import Http3Error, MessageError
from fairway.http3.session_flow import SessionFlow
from fairway.http3.webtransport import (
    OLDER_PROTOCOL,
    PROTOCOL,
    missing,
    session_protocol,
    session_request,
    session_response,
    with_webtransport,
)
from fairway.quic import QuicConfiguration, UsageError
from fairway.quic import events as quic_events
from fairway.quic.transport_parameters import TransportParameters
from fairway.wire import encode_varint

DATAGRAMS = QuicConfiguration(handshake_timeout_s=120.0, max_datagram_frame_size=65535)
CURRENT = with_webtransport(DEFAULT_SETTINGS)
SMALL = replace(CURRENT, wt_initial_max_data=1000, wt_initial_max_streams_bidi=3, wt_initial_max_streams_uni=3)
OLDER = replace(
    CURRENT, wt_enabled=False, wt_initial_max_data=0, wt_initial_max_streams_bidi=0, wt_initial_max_streams_uni=0
)
COMPLETE = TransportParameters(max_datagram_frame_size=65535, reset_stream_at=True)


class SessionPair(HttpPair):
    """A client and a server with one session."""

    def __init__(self, client: Settings = CURRENT, server: Settings = CURRENT, *, begin: bool = True) -> None:
        super().__init__(configuration=DATAGRAMS, client_settings=client, server_settings=server)
        self.run(lambda: self.client_http.peer_settings is not None and self.server_http.peer_settings is not None)
        protocol = self.client_http.session_protocol
        self.session = self.request(session_request(b"localhost", b"/", [], protocol=protocol), end=False)
        self.readers = {side.name: CapsuleReader() for side in (self.client, self.server)}
        self.capsules: dict[str, list[Capsule]] = {"client": [], "server": []}
        if begin:
            self.server_http.respond(self.session, session_response([], protocol=protocol))
            self.server_http.begin_session(self.session, protocol=protocol)
            self.run(lambda: bool(self.client.of(ev.ResponseReceived)))
            self.client_http.begin_session(self.session, protocol=protocol)
        self.settle()

    def give(self, content: bytes, *, unidirectional: bool = True, end: bool = True) -> int | None:
        """The client sends a stream; None if it may not."""
        stream_id = self.client_http.open_tunnel_stream(self.session, unidirectional=unidirectional)
        if stream_id is not None:
            assert self.client_http.send_data(stream_id, content, end=end) == len(content)
        self.run_for(0.1)
        return stream_id

    def turn(self) -> None:
        """Both sides act on each other's capsules."""
        self.run_for(0.1)
        for side in (self.client, self.server):
            data = self.http(side).read(self.session)
            for capsule in self.readers[side.name].feed(data):
                self.capsules[side.name].append(capsule)
                self.http(side).take_capsule(self.session, capsule)
        self.run_for(0.1)

    @property
    def ended(self) -> int | None:
        """The code with which the server ended the session."""
        failed = [event for event in self.server.of(ev.MessageFailed) if event.stream_id == self.session]
        return failed[0].code if failed else None


class TestWhoMayHaveSessions:  # section 3.1
    def test_what_is_needed_is_named(self) -> None:
        assert missing(CURRENT, COMPLETE) == ""
        assert missing(replace(CURRENT, wt_enabled=False), COMPLETE) == "SETTINGS_WT_ENABLED"
        assert missing(replace(CURRENT, h3_datagram=False), COMPLETE) == "SETTINGS_H3_DATAGRAM"
        assert missing(CURRENT, COMPLETE._replace(max_datagram_frame_size=0)) == "max_datagram_frame_size"
        assert missing(CURRENT, COMPLETE._replace(reset_stream_at=False)) == "reset_stream_at"

    def test_the_highest_version_of_both_is_asked_for(self) -> None:
        for client, server, protocol in (
            (CURRENT, CURRENT, PROTOCOL),
            (OLDER, CURRENT, OLDER_PROTOCOL),
            (CURRENT, OLDER, OLDER_PROTOCOL),
        ):
            pair = SessionPair(client, server)
            assert pair.client_http.session_protocol == protocol
            assert pair.server_http.takes_session(protocol)

    def test_a_client_that_does_not_announce_the_current_one_may_not_ask_for_it(self) -> None:
        pair = SessionPair(OLDER, CURRENT)
        assert not pair.server_http.takes_session(PROTOCOL)

    @pytest.mark.parametrize(
        ("client", "server", "said"),
        [
            (DEFAULT_SETTINGS, CURRENT, "without webtransport=True"),
            (CURRENT, DEFAULT_SETTINGS, "does not speak"),
            (
                CURRENT,
                replace(CURRENT, h3_datagram=False, webtransport_draft_02=False, webtransport_draft_07=0),
                "lacks SETTINGS_H3_DATAGRAM",
            ),
        ],
    )
    def test_a_client_is_told_why_it_can_have_no_session(self, client: Settings, server: Settings, said: str) -> None:
        pair = HttpPair(configuration=DATAGRAMS, client_settings=client, server_settings=server)
        pair.run(lambda: pair.client_http.peer_settings is not None)
        with pytest.raises(UsageError, match=said):
            _ = pair.client_http.session_protocol

    def test_the_setting_is_0_or_1(self) -> None:
        with pytest.raises(Http3Error) as raised:
            Settings.decode(encode_varint(0x2C7CF000) + encode_varint(2))
        assert raised.value.code is H3Code.H3_SETTINGS_ERROR

    def test_settings_survive(self) -> None:
        assert Settings.decode(SMALL.encode()) == SMALL

    def test_fields_of_older_drafts_are_for_older_drafts(self) -> None:
        assert session_protocol(session_request(b"a", b"/", [])) == PROTOCOL
        assert len(session_request(b"a", b"/", [], protocol=OLDER_PROTOCOL)) == len(session_request(b"a", b"/", [])) + 1
        assert session_response([]) == OK
        assert session_protocol([(b":method", b"CONNECT"), (b":protocol", b"websocket")]) is None
        assert session_protocol([(b":method", b"GET"), (b":protocol", PROTOCOL)]) is None


class TestMessages:  # RFC 9297 section 3.2
    ASK = session_request(b"localhost", b"/", [])

    @pytest.mark.parametrize("field", [(b"content-length", b"5"), (b"content-type", b"text/plain")])
    def test_a_request_for_a_session_describes_no_content(self, field: tuple[bytes, bytes]) -> None:
        peer = RawPeer(client=True, configuration=DATAGRAMS, server_settings=CURRENT)
        stream_id = peer.request(headers([*self.ASK, field]))
        assert peer.code is None
        assert peer.resets() == peer.stops() == {stream_id: H3Code.H3_MESSAGE_ERROR}
        assert not peer.tested.of(ev.RequestReceived)

    @pytest.mark.parametrize(
        ("response", "ok"),
        [
            ([(b":status", b"204")], False),
            ([(b":status", b"205")], False),
            ([(b":status", b"206")], False),
            ([*OK, (b"content-length", b"0")], False),
            ([*OK, (b"content-type", b"text/plain")], False),
            (OK, True),
            ([(b":status", b"404"), (b"content-length", b"0")], True),
        ],
    )
    def test_a_response_that_grants_a_session_has_no_content(
        self, response: list[tuple[bytes, bytes]], ok: bool
    ) -> None:
        settings = frames.encode(frames.SETTINGS, CURRENT.encode())
        peer = RawPeer(client=False, settings=settings, configuration=DATAGRAMS, client_settings=CURRENT)
        stream_id = peer.http.request(self.ASK)
        assert stream_id is not None
        peer.pair.run_for(0.1)
        peer.write(stream_id, headers(response))
        assert peer.code is None
        assert peer.stops() == ({} if ok else {stream_id: H3Code.H3_MESSAGE_ERROR})
        assert bool(peer.tested.of(ev.ResponseReceived)) is ok

    def test_nor_does_anybody_send_such(self) -> None:
        pair = SessionPair(begin=False)
        with pytest.raises(UsageError, match="content-type"):
            pair.client_http.request([*self.ASK, (b"content-type", b"text/plain")])
        with pytest.raises(UsageError, match="204"):
            pair.server_http.respond(pair.session, [(b":status", b"204")])
        pair.server_http.respond(pair.session, [(b":status", b"404"), (b"content-type", b"text/plain")], end=True)


class TestDatagrams:  # RFC 9297 section 2.1
    def test_they_are_sent_as_long_as_their_request_may_send(self) -> None:
        pair = SessionPair()
        assert pair.client_http.send_datagram(pair.session, b"x")
        pair.client_http.send_data(pair.session, b"", end=True)
        assert not pair.client_http.send_datagram(pair.session, b"too late")
        pair.run_for(0.1)
        assert pair.server.of(ev.DatagramReceived) == [ev.DatagramReceived(pair.session, b"x")]

    def test_they_go_with_requests_that_know_them_and_between_ends_that_take_them(self) -> None:
        pair = SessionPair()
        with pytest.raises(UsageError, match="no extended CONNECT"):
            pair.client_http.send_datagram(pair.request(POST, end=False), b"x")
        silent = SessionPair(client=replace(OLDER, h3_datagram=False))
        with pytest.raises(UsageError, match="our own settings"):
            silent.client_http.send_datagram(silent.session, b"x")


class TestStreamLimits:  # section 5.3
    @pytest.mark.parametrize("unidirectional", [False, True])
    def test_a_stream_past_the_limit_waits_until_others_are_over(self, unidirectional: bool) -> None:
        pair = SessionPair(server=SMALL)
        streams = [pair.give(b"x", unidirectional=unidirectional) for _ in range(4)]
        assert streams[3] is None
        pair.turn()
        blocked = capsules.WT_STREAMS_BLOCKED_UNI if unidirectional else capsules.WT_STREAMS_BLOCKED_BIDI
        assert pair.capsules["server"] == [Capsule(blocked, b"\x03")]
        assert not pair.client.of(quic_events.StreamsAvailable)
        for stream_id in streams[:2]:
            assert stream_id is not None
            pair.read_all(pair.server, stream_id)
            if not unidirectional:
                pair.server_http.send_data(stream_id, b"", end=True)
        pair.turn()
        raised = capsules.WT_MAX_STREAMS_UNI if unidirectional else capsules.WT_MAX_STREAMS_BIDI
        assert pair.capsules["client"] == [Capsule(raised, b"\x05")]
        assert pair.client.of(quic_events.StreamsAvailable) == [quic_events.StreamsAvailable(unidirectional)]
        assert pair.give(b"x", unidirectional=unidirectional) is not None

    def test_streams_that_are_reset_at_once_are_counted_by_both(self) -> None:
        pair = SessionPair(server=SMALL)
        for _ in range(20):
            stream_id = pair.client_http.open_tunnel_stream(pair.session)
            assert stream_id is not None
            pair.client_http.abort(stream_id, 7)
            pair.turn()
        assert pair.ended is None

    def test_who_opens_more_than_it_may_loses_the_session_and_nothing_else(self) -> None:
        pair = SessionPair(server=SMALL)
        core = pair.client.core
        assert core is not None
        for _ in range(4):
            stream_id = core.open_stream(unidirectional=True)
            assert stream_id is not None
            core.write(stream_id, encode_varint(frames.WEBTRANSPORT_UNI_STREAM) + encode_varint(pair.session))
        pair.run_for(0.1)
        assert pair.ended == H3Code.WT_FLOW_CONTROL_ERROR
        aborted = pair.client.of(ev.StreamAborted)
        assert [(event.stream_id, event.code) for event in aborted] == [(pair.session, H3Code.WT_FLOW_CONTROL_ERROR)]
        response, _ = pair.exchange()
        assert response.fields == OK

    def test_streams_before_their_session_count_once_it_stands(self) -> None:
        pair = SessionPair(server=SMALL, begin=False)
        core = pair.client.core
        assert core is not None
        for _ in range(4):
            stream_id = core.open_stream(unidirectional=True)
            assert stream_id is not None
            core.write(stream_id, encode_varint(frames.WEBTRANSPORT_UNI_STREAM) + encode_varint(pair.session))
        pair.run_for(0.1)
        assert pair.ended is None
        pair.server_http.respond(pair.session, session_response([]))
        pair.server_http.begin_session(pair.session)
        pair.run_for(0.1)
        assert pair.ended == H3Code.WT_FLOW_CONTROL_ERROR

    def test_limits_of_an_older_draft_do_not_exist(self) -> None:
        pair = SessionPair(OLDER, SMALL)
        for _ in range(10):
            assert pair.give(bytes(500)) is not None
        assert pair.ended is None


class TestDataLimits:  # section 5.4
    def test_a_writer_waits_for_the_sessions_credit_and_goes_on_when_the_other_end_has_read(self) -> None:
        pair = SessionPair(server=SMALL)
        first, second = (pair.client_http.open_tunnel_stream(pair.session, unidirectional=True) for _ in range(2))
        assert first is not None
        assert second is not None
        assert pair.client_http.send_data(first, bytes(700)) == 700
        assert pair.client_http.send_data(second, bytes(700), end=True) == 300
        assert pair.client_http.send_data(second, bytes(400), end=True) == 0
        pair.turn()
        assert pair.capsules["server"] == [Capsule(capsules.WT_DATA_BLOCKED, encode_varint(1000))]
        assert not pair.client.of(quic_events.StreamWritable)
        assert len(pair.server_http.read(first)) == 700
        pair.turn()
        assert pair.capsules["client"] == [Capsule(capsules.WT_MAX_DATA, encode_varint(1700))]
        assert pair.client.of(quic_events.StreamWritable) == [quic_events.StreamWritable(second)]
        assert pair.client_http.send_data(second, bytes(400), end=True) == 400
        assert len(pair.read_all(pair.server, second)) == 700

    def test_a_bare_end_needs_no_credit(self) -> None:
        pair = SessionPair(server=SMALL)
        stream_id = pair.give(bytes(1000), end=False)
        assert stream_id is not None
        pair.client_http.send_data(stream_id, b"", end=True)
        assert len(pair.read_all(pair.server, stream_id)) == 1000

    @pytest.mark.parametrize("unidirectional", [False, True])
    def test_who_sends_more_than_it_may_loses_the_session(self, unidirectional: bool) -> None:
        pair = SessionPair(server=SMALL)
        stream_id = pair.give(bytes(1000), unidirectional=unidirectional, end=False)
        assert stream_id is not None
        assert pair.client.core is not None
        pair.server_http.read(stream_id, 1)  # so that it is told of more
        assert pair.ended is None
        pair.client.core.write(stream_id, bytes(10))
        pair.run_for(0.1)
        pair.server_http.read(stream_id, 1)
        pair.client.core.write(stream_id, bytes(10))
        pair.run_for(0.1)
        assert pair.ended == H3Code.WT_FLOW_CONTROL_ERROR

    def test_the_final_size_of_a_reset_counts(self) -> None:
        pair = SessionPair(server=SMALL)
        assert pair.client.core is not None
        stream_id = pair.client_http.open_tunnel_stream(pair.session, unidirectional=True)
        assert stream_id is not None
        pair.client.core.write(stream_id, bytes(1100))
        pair.settle()
        pair.client.core.reset(stream_id, 1)
        pair.run_for(0.1)
        assert pair.ended == H3Code.WT_FLOW_CONTROL_ERROR

    @pytest.mark.parametrize("who", ["client resets", "server stops", "server stops what has ended"])
    def test_credit_of_streams_that_are_given_up_comes_back(self, who: str) -> None:
        pair = SessionPair(server=SMALL)
        for _ in range(12):
            stream_id = pair.client_http.open_tunnel_stream(pair.session, unidirectional=True)
            assert stream_id is not None
            assert pair.client_http.send_data(stream_id, bytes(150), end=who == "server stops what has ended") == 150
            pair.run(lambda stream_id=stream_id: _announced(pair, stream_id))  # type: ignore[misc]
            if who == "client resets":
                pair.client_http.reset(stream_id, 7)
            else:
                pair.server_http.stop_reading(stream_id, 7)
            pair.turn()
            pair.turn()
        assert pair.ended is None

    @pytest.mark.parametrize("end", [False, True])
    def test_what_was_on_its_way_when_a_stream_was_stopped_comes_back_too(self, end: bool) -> None:
        pair = SessionPair(server=SMALL)
        for _ in range(12):
            stream_id = pair.client_http.open_tunnel_stream(pair.session, unidirectional=True)
            assert stream_id is not None
            pair.run(lambda stream_id=stream_id: _announced(pair, stream_id))  # type: ignore[misc]
            pair.server_http.stop_reading(stream_id, 7)
            assert pair.client_http.send_data(stream_id, bytes(150), end=end) == 150
            pair.turn()
            pair.turn()
        assert pair.ended is None

    def test_bytes_that_were_never_sent_are_no_credit_used(self) -> None:
        pair = SessionPair(server=SMALL)
        stream_id = pair.client_http.open_tunnel_stream(pair.session, unidirectional=True)
        assert stream_id is not None
        assert pair.client_http.send_data(stream_id, bytes(1000)) == 1000
        pair.client_http.reset(stream_id, 7)  # before anything left
        assert pair.give(bytes(1000)) is not None
        pair.turn()
        assert pair.ended is None


def _announced(pair: SessionPair, stream_id: int) -> bool:
    return any(event.stream_id == stream_id for event in pair.server.of(ev.TunnelStreamOpened))


class TestCapsules:  # section 5.6
    def flow(self) -> SessionFlow:
        flow = SessionFlow(SMALL)
        flow.begin(SMALL)
        return flow

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (capsules.WT_MAX_DATA, encode_varint(1000)),  # no more than before
            (capsules.WT_MAX_DATA, encode_varint(999)),
            (capsules.WT_MAX_STREAMS_BIDI, encode_varint(3)),
            (capsules.WT_MAX_STREAMS_UNI, encode_varint(2)),
            (capsules.WT_MAX_STREAMS_BIDI, encode_varint((1 << 60) + 1)),
            (capsules.WT_STREAMS_BLOCKED_UNI, encode_varint((1 << 60) + 1)),
            (capsules.WT_MAX_STREAM_DATA, b"\x00\x05"),  # section 5.4: prohibited
            (capsules.WT_STREAM_DATA_BLOCKED, b"\x00\x05"),
        ],
    )
    def test_what_no_capsule_may_say_ends_the_session(self, kind: int, value: bytes) -> None:
        with pytest.raises(MessageError) as raised:
            self.flow().take(kind, value)
        assert raised.value.code is H3Code.WT_FLOW_CONTROL_ERROR

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (capsules.WT_MAX_DATA, b""),
            (capsules.WT_MAX_DATA, encode_varint(5000) + b"x"),
            (capsules.WT_DATA_BLOCKED, b"\xff"),
        ],
    )
    def test_a_capsule_that_is_not_its_fields_is_malformed(self, kind: int, value: bytes) -> None:
        """RFC 9297 section 3.3."""
        with pytest.raises(MessageError) as raised:
            self.flow().take(kind, value)
        assert raised.value.code is H3Code.H3_MESSAGE_ERROR

    @given(st.sampled_from(sorted(capsules.FLOW_CONTROL)), st.binary(max_size=12))
    def test_any_capsule_is_taken_or_ends_the_session(self, kind: int, value: bytes) -> None:
        flow = self.flow()
        before: Any = flow.credit.limit, [credit.limit for credit in flow.stream_credit]
        try:
            flow.take(kind, value)
        except MessageError:
            assert before == (flow.credit.limit, [credit.limit for credit in flow.stream_credit])

    def test_a_capsule_before_flow_control_is_agreed_is_ignored(self) -> None:  # section 5.1
        pair = SessionPair(OLDER, SMALL)
        pair.server_http.take_capsule(pair.session, Capsule(capsules.WT_MAX_DATA, b"\x00"))
        assert pair.ended is None
