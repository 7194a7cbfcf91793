"""Malformed messages (RFC 9114 sections 4.1.2 to 4.4): each is refused, alone, with H3_MESSAGE_ERROR."""

from __future__ import annotations

import pytest
from http3_pair import GET, OK, POST, HttpPair
from raw_peers import RawPeer, data, headers

from fairway.http3 import (
    BodyReadable,
    H3Code,
    InformationalReceived,
    MessageFailed,
    RequestReceived,
    ResponseReceived,
    Settings,
    TrailersReceived,
    frames,
)
from fairway.http3.errors import MessageError
from fairway.http3.fields import check_request, check_response, check_trailers
from fairway.quic import UsageError

METHOD, SCHEME, AUTHORITY, PATH = GET
CONNECT = [(b":method", b"CONNECT"), (b":authority", b"example.org:443")]
EXTENDED = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), SCHEME, AUTHORITY, PATH]


def instead(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    """A GET with another value of one of its fields."""
    return [(known, value if known == name else old) for known, old in GET]


BAD_REQUESTS = {
    "nothing": [],
    "no method": GET[1:],
    "no scheme": [METHOD, AUTHORITY, PATH],
    "no path": [METHOD, SCHEME, AUTHORITY],
    "no authority": [METHOD, SCHEME, PATH],
    "no authority, scheme in capitals": [METHOD, (b":scheme", b"HTTPS"), PATH],
    "empty authority": instead(b":authority", b""),
    "empty host": [METHOD, SCHEME, PATH, (b"host", b"")],
    "user in authority": instead(b":authority", b"user@localhost"),
    "path in authority": instead(b":authority", b"localhost/x"),
    "backslash in authority": instead(b":authority", b"localhost\\x"),
    "space in authority": instead(b":authority", b"local host"),
    "two ports in authority": instead(b":authority", b"localhost:1:2"),
    "words for a port in authority": instead(b":authority", b"localhost:https"),
    "no host in authority": instead(b":authority", b":443"),
    "open bracket in authority": instead(b":authority", b"[::1"),
    "empty authority, another scheme": [METHOD, (b":scheme", b"ftp"), (b":authority", b""), PATH],
    "host differs": [*GET, (b"host", b"evil")],
    "second host differs": [METHOD, SCHEME, PATH, (b"host", b"a"), (b"host", b"b")],
    "empty path": instead(b":path", b""),
    "relative path": instead(b":path", b"x"),
    "space in path": instead(b":path", b"/x y"),
    "fragment in path": instead(b":path", b"/x#y"),
    "line break in path": instead(b":path", b"/x\r\nhost: evil"),
    "asterisk with GET": instead(b":path", b"*"),
    "empty method": instead(b":method", b""),
    "space in method": instead(b":method", b"GET /x HTTP/1.1"),
    "bad scheme": instead(b":scheme", b"ht tps"),
    "method twice": [METHOD, *GET],
    "path twice": [*GET, (b":path", b"/admin")],
    "status in a request": [*GET, (b":status", b"200")],
    "unknown pseudo-field": [*GET, (b":x", b"y")],
    "bare colon": [*GET, (b":", b"y")],
    "pseudo-field late": [*GET[:3], (b"a", b"b"), PATH],
    "protocol without CONNECT": [*GET, (b":protocol", b"websocket")],
    "protocol not offered": EXTENDED,
    "CONNECT with path": [*CONNECT, PATH],
    "CONNECT with scheme": [*CONNECT, SCHEME],
    "CONNECT without authority": CONNECT[:1],
    "CONNECT with empty authority": [CONNECT[0], (b":authority", b"")],
    "CONNECT without port": [CONNECT[0], (b":authority", b"example.org")],
    "CONNECT with empty port": [CONNECT[0], (b":authority", b"example.org:")],
    "CONNECT with port 0": [CONNECT[0], (b":authority", b"example.org:0")],
    "CONNECT with port 65536": [CONNECT[0], (b":authority", b"example.org:65536")],
    "name in capitals": [*GET, (b"X-A", b"b")],
    "empty name": [*GET, (b" ", b"b")],
    "space in name": [*GET, (b"a b", b"b")],
    "colon in name": [*GET, (b"a:b", b"b")],
    "line break in name": [*GET, (b"a\r\nb", b"b")],
    "name beyond ASCII": [*GET, (b"\xe4", b"b")],
    "NUL in value": [*GET, (b"a", b"b\0c")],
    "CR in value": [*GET, (b"a", b"b\rc")],
    "LF in value": [*GET, (b"a", b"b\nc: d")],
    "space before value": [*GET, (b"a", b" b")],
    "tab after value": [*GET, (b"a", b"b\t")],
    "connection": [*GET, (b"connection", b"close")],
    "keep-alive": [*GET, (b"keep-alive", b"5")],
    "proxy-connection": [*GET, (b"proxy-connection", b"close")],
    "transfer-encoding": [*GET, (b"transfer-encoding", b"chunked")],
    "upgrade": [*GET, (b"upgrade", b"h2c")],
    "te": [*GET, (b"te", b"trailers, deflate")],
    "content-length in words": [*GET, (b"content-length", b"five")],
    "content-length with a sign": [*GET, (b"content-length", b"+0")],
    "negative content-length": [*GET, (b"content-length", b"-1")],
    "empty content-length": [*GET, (b"content-length", b"")],
    "content-length as a list": [*GET, (b"content-length", b"0, 0")],
    "content-lengths that differ": [*GET, (b"content-length", b"0"), (b"content-length", b"1")],
    "content-length without end": [*GET, (b"content-length", b"9" * 40)],
}
BAD_RESPONSES = {
    "nothing": [],
    "no status": [(b"a", b"b")],
    "late status": [(b"a", b"b"), *OK],
    "status twice": [*OK, *OK],
    "path in a response": [*OK, PATH],
    "unknown pseudo-field": [*OK, (b":x", b"y")],
    "name in capitals": [*OK, (b"X-A", b"b")],
    "LF in value": [*OK, (b"a", b"b\nc: d")],
    "connection": [*OK, (b"connection", b"close")],
    "te": [*OK, (b"te", b"trailers")],
    "status with a reason": [(b":status", b"200 OK")],
    "short status": [(b":status", b"20")],
    "status 0": [(b":status", b"099")],
    "status 101": [(b":status", b"101")],
    "status in words": [(b":status", b"abc")],
    "transfer-encoding": [*OK, (b"transfer-encoding", b"chunked")],
    "content-lengths that differ": [*OK, (b"content-length", b"1"), (b"content-length", b"2")],
}
BAD_TRAILERS = {
    "pseudo-field": OK,
    "method": [METHOD],
    "content-length": [(b"content-length", b"3")],
    "host": [(b"host", b"localhost")],
    "transfer-encoding": [(b"transfer-encoding", b"chunked")],
    "te": [(b"te", b"trailers")],
    "capitals": [(b"A", b"b")],
}


class TestFields:  # sections 4.2, 4.3, 4.4
    @pytest.mark.parametrize("fields", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
    def test_a_malformed_request_is_refused_and_no_application_hears_of_it(
        self, fields: list[tuple[bytes, bytes]]
    ) -> None:
        for _ in range(2):  # nothing wrong is remembered as right
            with pytest.raises(MessageError):
                check_request(fields)
        peer = RawPeer(client=True)
        stream_id = peer.request(headers(fields) + data(b"x"), end=True)
        assert peer.code is None
        assert peer.resets() == {stream_id: H3Code.H3_MESSAGE_ERROR}
        assert not peer.tested.of(RequestReceived)
        assert not peer.tested.of(BodyReadable)
        (failed,) = peer.tested.of(MessageFailed)
        assert failed.code == H3Code.H3_MESSAGE_ERROR  # type: ignore[union-attr]

    @pytest.mark.parametrize("fields", BAD_RESPONSES.values(), ids=BAD_RESPONSES)
    def test_a_malformed_response_is_refused(self, fields: list[tuple[bytes, bytes]]) -> None:
        with pytest.raises(MessageError):
            check_response(fields)
        peer = RawPeer(client=False)
        stream_id = peer.asked(GET)
        peer.write(stream_id, headers(fields))
        assert peer.code is None
        assert peer.stops() == {stream_id: H3Code.H3_MESSAGE_ERROR}
        assert not peer.tested.of(ResponseReceived)

    @pytest.mark.parametrize("fields", BAD_TRAILERS.values(), ids=BAD_TRAILERS)
    def test_malformed_trailers_fail_the_message(self, fields: list[tuple[bytes, bytes]]) -> None:
        with pytest.raises(MessageError):
            check_trailers(fields)
        peer = RawPeer(client=True)
        stream_id = peer.request(headers(POST) + data(b"body") + headers(fields), end=True)
        peer.http.read(stream_id)
        assert not peer.http.at_end(stream_id), "a failed body never looks like a whole one"
        peer.pair.run_for(0.1)
        assert peer.resets() == {stream_id: H3Code.H3_MESSAGE_ERROR}
        assert not peer.tested.of(TrailersReceived)

    @pytest.mark.parametrize(
        "fields",
        [
            GET,
            [METHOD, SCHEME, PATH, (b"host", b"localhost")],
            [*GET, (b"host", b"localhost")],
            instead(b":authority", b"[::1]:443"),
            instead(b":authority", b"localhost:"),
            instead(b":path", b"/%20?a=b&c='\"\\"),
            [(b":method", b"OPTIONS"), SCHEME, AUTHORITY, (b":path", b"*")],
            [*GET, (b"te", b"trailers"), (b"a", b""), (b"a", b"b\tc d"), (b"a", b"\xff")],
            [*GET, (b"content-length", b"0"), (b"content-length", b"0")],
            CONNECT,
            [*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2")],
        ],
        ids=range(11),
    )
    def test_a_request_that_is_right_arrives_as_it_was_sent(self, fields: list[tuple[bytes, bytes]]) -> None:
        pair = HttpPair()
        pair.request(fields)
        assert pair.first(pair.server, RequestReceived).fields == fields

    @pytest.mark.parametrize("missing", [SCHEME, AUTHORITY, PATH], ids=["scheme", "authority", "path"])
    def test_extended_connect_names_what_it_is_for(self, missing: tuple[bytes, bytes]) -> None:  # RFC 8441 section 4
        peer = RawPeer(client=True, server_settings=Settings(enable_connect_protocol=True))
        stream_id = peer.request(headers([field for field in EXTENDED if field != missing]))
        assert peer.code is None
        assert peer.resets() == peer.stops() == {stream_id: H3Code.H3_MESSAGE_ERROR}
        assert not peer.tested.of(RequestReceived)

    def test_extended_connect_is_taken_where_it_was_offered_and_sent_where_it_is_taken(self) -> None:
        pair = HttpPair(server_settings=Settings(enable_connect_protocol=True))
        pair.request(EXTENDED, end=False)
        refusing = HttpPair()
        with pytest.raises(UsageError, match="extended CONNECT"):
            refusing.client_http.request(EXTENDED)
        for wrong in (EXTENDED[:-1], [*EXTENDED[:3], PATH], [(b":protocol", b"a b"), *CONNECT[:1], *GET[1:]]):
            with pytest.raises(MessageError):
                check_request(wrong, extended_connect=True)


class TestLengths:  # section 4.1.2
    @pytest.mark.parametrize(
        ("length", "body"),
        [
            (b"4", data(b"12345")),
            (b"4", data(b"1234") + data(b"5")),
            (b"6", data(b"12345")),
            (b"1", b""),
            (b"0", data(b"1")),
            (b"6", data(b"12345") + headers([(b"a", b"b")])),
        ],
    )
    def test_a_body_has_the_length_that_its_request_says(self, length: bytes, body: bytes) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.request(headers([*POST, (b"content-length", length)]) + body, end=True)
        for _ in range(3):
            peer.http.read(stream_id)
        assert not peer.http.at_end(stream_id) or peer.tested.of(MessageFailed)
        assert peer.code is None
        assert peer.resets() == {stream_id: H3Code.H3_MESSAGE_ERROR}

    @pytest.mark.parametrize(
        ("request_", "status", "body", "ok"),
        [
            (b"GET", b"200", b"12345", True),
            (b"GET", b"200", b"1234", False),
            (b"GET", b"200", b"", False),
            (b"HEAD", b"200", b"", True),
            (b"HEAD", b"200", b"12345", False),
            (b"GET", b"304", b"", True),
            (b"GET", b"304", b"12345", False),
            (b"GET", b"204", b"", True),
            (b"GET", b"204", b"12345", False),
        ],
    )
    def test_a_response_has_the_body_that_its_method_and_status_allow(
        self, request_: bytes, status: bytes, body: bytes, ok: bool
    ) -> None:
        peer = RawPeer(client=False)
        stream_id = peer.asked(instead(b":method", request_))
        fields = [(b":status", status), (b"content-length", b"5")]
        peer.write(stream_id, headers(fields) + (data(body) if body else b""), end=True)
        peer.http.read(stream_id)
        peer.pair.run_for(0.1)
        codes = [event.code for event in peer.tested.of(MessageFailed)]  # type: ignore[union-attr]
        assert codes == ([] if ok else [H3Code.H3_MESSAGE_ERROR])
        assert peer.code is None

    @pytest.mark.parametrize("status", [b"200", b"204"])
    def test_a_tunnel_has_no_length(self, status: bytes) -> None:
        peer = RawPeer(client=False)
        stream_id = peer.asked(CONNECT)
        peer.write(stream_id, headers([(b":status", status), (b"content-length", b"1")]) + data(b"12345"))
        assert peer.http.read(stream_id) == b"12345"
        peer.write(stream_id, headers([(b"a", b"b")]))
        peer.http.read(stream_id)
        assert peer.code == H3Code.H3_FRAME_UNEXPECTED


class TestSizes:  # section 4.2.2
    def test_a_server_answers_431_to_fields_that_are_too_many_and_wants_no_more(self) -> None:
        for large in (
            [*GET, *[(b"a", b"b" * 1000)] * 70],
            [*GET, *[(b"a", b"b")] * 600],
            [*GET, (b"a", b"b" * 65_500), (b"c", b"d" * 60_000)],
        ):
            peer = RawPeer(client=True)
            stream_id = peer.request(headers(large) + data(b"x"))
            assert not peer.tested.of(RequestReceived)
            answer = bytes(peer.side.received[stream_id])
            kind, length, after = frames.decode_header(answer) or (0, 0, 0)
            assert (kind, after + length) == (frames.HEADERS, len(answer))
            assert b"431" in answer
            assert stream_id in peer.side.ended
            assert peer.stops() == {stream_id: H3Code.H3_NO_ERROR}
            assert peer.code is None

    def test_a_client_gives_up_a_response_with_fields_that_are_too_many(self) -> None:
        peer = RawPeer(client=False)
        stream_id = peer.asked(GET)
        peer.write(stream_id, headers([*OK, *[(b"a", b"b" * 1000)] * 70]))
        assert peer.stops() == {stream_id: H3Code.H3_EXCESSIVE_LOAD}
        assert peer.code is None

    def test_the_limit_is_what_our_settings_say(self) -> None:
        settings = Settings(max_field_section_size=1000)
        peer = RawPeer(client=True, server_settings=settings)
        peer.request(headers([*GET, (b"a", b"b" * 900)]), end=True)
        assert [type(event) for event in peer.tested.of(MessageFailed)] == [MessageFailed]

    def test_nothing_larger_is_sent_than_the_peer_takes_and_no_stream_is_lost_over_it(self) -> None:
        small = Settings(max_field_section_size=300)
        pair = HttpPair(server_settings=small, client_settings=small)
        pair.run_for(0.1)
        large = [(b"a", b"b" * 300)]
        with pytest.raises(UsageError, match="the peer takes 300"):
            pair.client_http.request([*GET, *large])
        assert pair.request(POST, end=False) == 0, "the refused request took no stream"
        for fields in ([*OK, *large], [(b":status", b"103"), *large]):
            with pytest.raises(UsageError, match="the peer takes 300"):
                pair.server_http.respond(0, fields)
        with pytest.raises(UsageError, match="the peer takes 300"):
            pair.client_http.send_trailers(0, large)


class TestOrder:  # section 4.1
    @pytest.mark.parametrize("more", [OK, [(b":status", b"103")], GET], ids=["final", "interim", "request"])
    def test_after_a_final_response_comes_no_other(self, more: list[tuple[bytes, bytes]]) -> None:
        peer = RawPeer(client=False)
        stream_id = peer.asked(GET)
        peer.write(stream_id, headers(OK) + data(b"body") + headers(more), end=True)
        peer.http.read(stream_id)
        peer.pair.run_for(0.1)
        assert not peer.http.at_end(stream_id) or peer.tested.of(MessageFailed)
        (failed,) = peer.tested.of(MessageFailed)
        assert (failed.stream_id, failed.code) == (stream_id, H3Code.H3_MESSAGE_ERROR)  # type: ignore[union-attr]
        assert peer.code is None

    def test_trailers_may_be_empty(self) -> None:
        pair = HttpPair()
        stream_id = pair.request(POST, b"body", end=False)
        pair.client_http.send_trailers(stream_id, [])
        assert pair.read_all(pair.server, stream_id) == b"body"
        assert pair.first(pair.server, TrailersReceived).fields == []

    def test_more_interim_responses_than_anybody_sends_fail_the_message(self) -> None:
        peer = RawPeer(client=False)
        stream_id = peer.asked(GET)
        peer.write(stream_id, headers([(b":status", b"103")]) * 101)
        assert len(peer.tested.of(InformationalReceived)) == 100
        assert peer.stops() == {stream_id: H3Code.H3_MESSAGE_ERROR}

    def test_a_response_may_be_complete_before_its_request(self) -> None:
        pair = HttpPair()
        stream_id = pair.request(POST, end=False)
        pair.server_http.respond(stream_id, OK, data=b"no", end=True)
        pair.server_http.stop_reading(stream_id)
        assert pair.server_http.is_over(stream_id)
        pair.first(pair.client, ResponseReceived)
        assert pair.read_all(pair.client, stream_id) == b"no"
        assert not pair.client_http.can_send(stream_id)
