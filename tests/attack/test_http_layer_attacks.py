"""Attacks on what stands above HTTP/3: applications' servers over UDP and TCP, and the client's commands."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
import tracemalloc
import zlib
from typing import Any

import pytest
from asgi_serving import PROTOCOLS, ask_h3, serving
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from quic_attacker import bounded

from fairway.aio import QuicConfiguration, http3
from fairway.cli import problems
from fairway.http.client.alt_svc import Alternative, AltSvcCache, parse
from fairway.http.client.decoding import decoder
from fairway.http.client.download import Ask, RedirectError, redirected
from fairway.http.client.url import parse as parse_url
from fairway.http.server.access_log import AccessLog
from fairway.http.server.asgi import Limits, Message, Receive, Scope, Send
from fairway.http.server.asgi.messages import Closed, Messages, Received
from fairway.http.server.service import Service
from fairway.http.server.sockets import open_sockets
from fairway.http.server.tcp import TcpServer
from fairway.http3 import H3Code
from fairway.quic import ClosedBy, Closing

TEXT, BINARY, CONTINUED = 0x01, 0x02, 0x00


def frame(opcode: int, payload: bytes = b"", *, last: bool = False) -> bytes:
    """A WebSocket frame of a client, masked with zeros."""
    assert len(payload) < 126
    return bytes((opcode | last << 7, 0x80 | len(payload))) + bytes(4) + payload


class TestWebSocketFragments:
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("payload", [b"", b"ab"])
    def test_fragments_take_no_more_memory_than_what_is_in_them(self, opcode: int, payload: bytes) -> None:
        messages = Messages(1 << 20)
        list(messages.receive(frame(opcode, payload)))
        block = frame(CONTINUED, payload) * 1000
        with bounded(steps=25_000_000, megabytes=1.0 if payload else 0.3):
            for _ in range(50):
                assert list(messages.receive(block)) == []
        whole = payload * 50_001
        (received,) = messages.receive(frame(CONTINUED, last=True))
        assert received == Received(whole.decode() if opcode == TEXT else whole)


class TestWebSocketBombs:
    def test_one_is_looked_at_before_much_of_it_is_inflated(self) -> None:
        messages = Messages(100_000)
        assert messages.negotiate([b"permessage-deflate"])
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(bytes(60_000_000))
        block = b"\xc2\xff" + (10 * len(packed)).to_bytes(8, "big") + bytes(4) + packed[:60_000]
        tracemalloc.start()
        (event,) = messages.receive(block)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert isinstance(event, Closed)
        assert event.answer == 1009
        assert peak < 16_000_000


class TestDecoding:
    def test_a_body_of_many_gzip_members_costs_what_it_has(self) -> None:
        body = gzip.compress(b"") * 200_000
        undo = decoder("gzip")
        with bounded(steps=4_000_000, at_once=0.2):
            assert b"".join(undo.decode(body)) == b""
            undo.finish()

    @pytest.mark.parametrize("coding", ["gzip", "br"])
    def test_a_bomb_comes_in_pieces(self, coding: str) -> None:
        brotli = pytest.importorskip("brotli")
        zeros = bytes(200_000_000)
        bomb = gzip.compress(zeros, 6) if coding == "gzip" else brotli.compress(zeros, quality=1)
        del zeros
        count = 0
        with bounded(steps=8_000, megabytes=3.0, at_once=6.0):
            for piece in decoder(coding).decode(bomb):
                assert len(piece) <= 2 << 20
                count += len(piece)
        assert count == 200_000_000


class TestWordsOfOthers:
    ESCAPES = "\x1b]0;owned\x07\x9b31m\r\nerror: obey"

    def test_the_reason_of_a_peer_moves_no_terminal(self) -> None:
        told = str(Closing(ClosedBy.PEER, 1, self.ESCAPES, application=True))
        assert told.isprintable()
        assert "owned" in told

    def test_nothing_that_is_told_moves_the_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        ask = Ask(parse_url("https://a/"))
        with pytest.raises(RedirectError) as raised:
            redirected(ask, 302, "http://h/\x9b31m\x1b[2J".encode())
        problems.tell(str(raised.value), self.ESCAPES)
        told = capsys.readouterr().err
        assert "owned" in told
        assert all(char.isprintable() or char == "\n" for char in told)

    @pytest.mark.parametrize(
        "location", ["http://a/", "file:///etc/passwd", "ftp://a/", "javascript:1", "https://", "//"]
    )
    def test_redirects_lead_to_https_only(self, location: str) -> None:
        ask = Ask(parse_url("https://a/"))
        try:
            url = redirected(ask, 302, location.encode()).url
        except RedirectError:
            return
        assert (url.host, str(url)[:8]) == ("a", "https://")

    @pytest.mark.parametrize(
        "path", ["/..", "/a/..%2f..%2fx", "/%2e%2e", "/%2fetc%2fpasswd", "/", "/.", "/%00", "/a%5c..%5cb", "/%1b[2J"]
    )
    def test_a_name_from_a_url_stays_in_its_directory(self, path: str) -> None:
        name = parse_url(f"https://a{path}").file_name
        assert name.isprintable()
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert "\\" not in name


class TestAltSvc:
    @pytest.mark.parametrize(
        "value",
        [
            'h3=":443"' + "; a=b" * 2000,
            'h3="' + "\\a" * 4000,
            "h3=" * 4000,
            '"' * 8000,
            ('h3=":443", ' * 1000)[:-2],
            " " * 5000 + "x",
            'h3=":443"' + " " * 8000 + "x",
            ('h3=":443"' + " " * 50 + "x,") * 100,
        ],
    )
    def test_no_field_takes_long(self, value: str) -> None:
        # A pattern that tries without end, which is inside one step, is for the limit that all tests have.
        with bounded(steps=40_000, megabytes=2.0):
            parse(value)

    @pytest.mark.parametrize(
        "value", ['h3=":0"', 'h3=":65536"', 'h3="a"', 'h3="user@b:443"', 'h3="b/c:443"', 'h3=":-1"']
    )
    def test_an_alternative_that_is_none_is_not_taken(self, value: str) -> None:
        cache = AltSvcCache()
        cache.learn(("a", 443), value, 0.0)
        assert cache.find(("a", 443), 1.0) is None

    def test_what_follows_in_a_field_without_end_is_not_looked_at(self) -> None:
        assert len(parse('h3=":443",' * 300_000) or []) <= 410

    def test_origins_without_number_are_not_all_remembered(self) -> None:
        cache = AltSvcCache()
        for number in range(3_000):
            cache.learn((f"{number}.test", 443), 'h3=":443"', 0.0)
            cache.failed((f"{number}.test", 443), Alternative(f"{number}.test", 444), 0.0)
        assert sum(cache.find((f"{number}.test", 443), 1.0) is not None for number in range(3_000)) == 1_000
        broken = (cache.is_broken((f"{n}.test", 443), Alternative(f"{n}.test", 444), 1.0) for n in range(3_000))
        assert sum(broken) == 1_000

    def test_no_age_outlasts_the_cap(self) -> None:
        cache = AltSvcCache()
        cache.learn(("a", 443), 'h3=":443"; ma=999999999999999999', 0.0)
        assert cache.find(("a", 443), 31 * 86400.0) is None


Bad = tuple[bytes, bytes]


class TestInjection:
    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize(
        "bad",
        [(b"x", b"y\r\nset-cookie: a=b"), (b"x", b"y\nz: 1"), (b"x: y\r\nz", b"1"), (b"x", b"\0"), (b"x y", b"1")],
    )
    def test_an_application_cannot_be_made_to_send_fields_of_others(self, protocol: str, bad: Bad) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": [bad]})
                await send({"type": "http.response.body", "body": b"injected"})

        async def main() -> None:
            async with serving(application, tcp=True) as served:
                answer = await served.ask(protocol)
                assert answer.status == 500
                assert b"injected" not in answer.body
                assert answer.header("set-cookie") is None
                assert answer.header("z") is None

        asyncio.run(main())

    def test_a_path_of_http2_cannot_write_lines_or_escapes_into_the_access_log(self) -> None:
        written: list[str] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b""})

        async def main() -> None:
            async with serving(AccessLog(application, write=written.append), tcp=True) as served:
                for path in (b"/\x1b]0;owned\x07", b'/" 200 0 h3\x7f', b"/a b", b"/\x0b", b"/?\x1b[2J"):
                    await ask_h2(served.port, path)
                await served.ask("h3", "/fine")

        asyncio.run(main())
        assert written
        for line in written:
            assert line.endswith("\n")
            assert line[:-1].isprintable()
            assert line.count('"') == 2
            assert len(line.split('"')[1].split(" ")) == 2


async def ask_h2(port: int, path: bytes) -> None:
    """A request whose path nobody checks on this side; the server may close instead of answering."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    http = H2Connection(H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False))
    http.initiate_connection()
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
    http.send_headers(1, fields, end_stream=True)
    writer.write(http.data_to_send())
    while data := await reader.read(65536):
        if any(isinstance(event, StreamEnded) for event in http.receive_data(data)):
            break
        writer.write(http.data_to_send())
    writer.close()


class TestTcp:
    def ask(self, content: bytes, *, limits: Limits | None = None) -> bytes:
        """What the plain port, which only redirects, sends until it closes."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            raise AssertionError("not to be asked")

        async def main() -> bytes:
            sockets = open_sockets("127.0.0.1", 0, tcp=True)
            server = TcpServer(
                application,
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
                secure=[],
                insecure=sockets.tcp,
                port=443,
                state=dict,
                limits=limits or Limits(),
            )
            server.start()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", sockets.port)
                writer.write(content)
                answer = await asyncio.wait_for(reader.read(), 10)
                writer.close()
            finally:
                await server.close(0.5)
                sockets.close()
            return answer

        return asyncio.run(main())

    @pytest.mark.parametrize(
        ("host", "target"),
        [
            (b"good.example", b"@evil.example/"),
            (b"good.example", b".evil.example/"),
            (b"good.example", b"http://evil.example/"),
            (b"good.example@evil.example", b"/"),
            (b"good.example/x", b"/"),
            (b"good.example\\x", b"/"),
        ],
    )
    def test_a_redirect_leads_to_the_host_that_was_asked_or_nowhere(self, host: bytes, target: bytes) -> None:
        answer = self.ask(b"GET %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n" % (target, host))
        assert b"location" not in answer.lower()

    def test_half_a_request_is_not_waited_for_without_end(self) -> None:
        assert b"200" not in self.ask(b"GET / HTTP/1.1\r\nhost: a\r\nx: ", limits=Limits(idle_timeout_s=0.3))


async def idle(service: Service) -> None:
    """Wait until no application runs."""
    while service.running:  # noqa: ASYNC110 - a service tells of it only by the figure
        await asyncio.sleep(0.01)


class TestManyAndSlow:
    def test_requests_that_are_begun_and_reset_at_once_leave_no_application_behind(self) -> None:
        running = 0

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal running
            if scope["type"] != "http":
                return
            running += 1
            try:
                while (await receive()).get("more_body"):
                    pass
            finally:
                running -= 1

        async def main() -> None:
            async with serving(application) as served, served.dial() as client:
                head = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
                for _ in range(400):
                    stream = await client.begin(head)
                    stream.abort()
                async with served.dial() as honest:
                    assert (await asyncio.wait_for(refused(honest), 10)) == 500
                await idle(served.service)
            assert running == 0

        async def refused(client: Any) -> int:
            return (await ask_h3(client, "/")).status

        asyncio.run(main())

    def test_who_reads_nothing_of_a_large_answer_costs_a_buffer_and_is_given_up(self) -> None:
        sent = 0

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal sent
            if scope["type"] != "http":
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send(body)
                sent += 1 << 20

        body: Message = {"type": "http.response.body", "body": bytes(1 << 20), "more_body": True}

        async def main() -> None:
            async with serving(application, limits=Limits(write_timeout_s=0.2)) as served, served.dial() as client:
                with bounded(steps=1_000_000, megabytes=12.0):
                    stream = await client.request("GET", "localhost")
                    await idle(served.service)
                stream.abort()

        asyncio.run(main())
        assert sent < 16 << 20

    def test_who_asks_on_and_reads_nothing_of_answers_that_are_written_does_not_keep_them(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                large = scope["path"] == "/large"
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": bytes(1_000_000 if large else 1)})

        async def main() -> None:
            small = QuicConfiguration(stream_window=65_536, stream_window_cap=65_536)
            limits = Limits(write_timeout_s=0.2)
            async with serving(application, limits=limits) as served, served.dial(configuration=small) as client:
                unread = [await client.request("GET", "localhost", "/large") for _ in range(8)]
                async with asyncio.timeout(30):
                    while any(stream.failure is None for stream in unread):
                        with contextlib.suppress(http3.RequestError):  # what is answered at that very moment goes along
                            assert (await ask_h3(client, "/")).status == 200
                codes = {stream.failure.code for stream in unread if stream.failure is not None}
                assert codes == {H3Code.H3_REQUEST_CANCELLED}
                assert served.service.running == 0

        asyncio.run(main())
