"""WebTransport with aioquic: its client and our server, our client and its server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.asyncio import connect as aioquic_connect
from aioquic.asyncio import serve as aioquic_serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset
from bench.certificates import Certificate, make_certificate

from fairway.aio import http3
from fairway.http3.capsules import CLOSE_SESSION, Capsule, CapsuleReader
from fairway.http3.webtransport import SessionClosed, from_http_code, to_http_code

BLOCK = bytes(range(256)) * 400

Use = Callable[[Any], Awaitable[None]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("webtransport"))


class Peer(QuicConnectionProtocol):
    """aioquic's end of a connection; what arrives is put into queues by stream, datagrams under -1."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http: Any = (
            H3Connection(self._quic, enable_webtransport=True) if self._quic.configuration.is_client else None
        )
        self.arrived: dict[int, asyncio.Queue[Any]] = {}
        self.opened: asyncio.Queue[int] = asyncio.Queue()
        self.own: set[int] = set()

    def of(self, stream_id: int) -> asyncio.Queue[Any]:
        return self.arrived.setdefault(stream_id, asyncio.Queue())

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated) and self.http is None:
            self.http = H3Connection(self._quic, enable_webtransport=True)
        if isinstance(event, StreamDataReceived) and event.stream_id in self.own:
            self.of(event.stream_id).put_nowait((event.data, event.end_stream))
            return  # aioquic's HTTP/3 takes what comes back on a session's stream of its own for frames
        if isinstance(event, StreamReset | StopSendingReceived):
            self.of(event.stream_id).put_nowait((type(event), event.error_code))
        for happened in self.http.handle_event(event) if self.http is not None else ():
            if isinstance(happened, WebTransportStreamDataReceived):
                if happened.stream_id not in self.arrived:
                    self.opened.put_nowait(happened.stream_id)
                self.of(happened.stream_id).put_nowait((happened.data, happened.stream_ended))
            elif isinstance(happened, DatagramReceived):
                self.of(-1).put_nowait(happened.data)
            elif isinstance(happened, DataReceived):
                self.of(happened.stream_id).put_nowait((happened.data, happened.stream_ended))
            elif isinstance(happened, HeadersReceived):
                self.of(happened.stream_id).put_nowait(dict(happened.headers))
                self.asked(happened)

    def asked(self, event: HeadersReceived) -> None:
        """For servers."""

    async def whole(self, stream_id: int) -> bytes:
        content = b""
        while True:
            data, ended = await self.of(stream_id).get()
            content += data
            if ended:
                return content

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self._quic.send_stream_data(stream_id, data, end)
        self.transmit()

    def open(self, session_id: int, *, unidirectional: bool = False) -> int:
        stream_id: int = self.http.create_webtransport_stream(session_id, is_unidirectional=unidirectional)
        self.own.add(stream_id)
        return stream_id


# aioquic asks


async def echo(request: http3.Request) -> None:
    """What our server does with a session."""
    if request.origin not in (None, "https://friend.example"):
        request.respond([(b":status", b"403")], end=True)
        return
    async with request.accept_session() as session:

        async def datagrams() -> None:
            while True:
                session.send_datagram(b"echo " + await session.receive_datagram())

        async def streams() -> None:
            async for stream in session.incoming_streams():
                try:
                    data = await stream.receive_all()
                except http3.RequestError as error:
                    stream.reset(1 + (error.application_code or 0))
                    continue
                back = await session.open_stream(unidirectional=True) if stream.unidirectional else stream
                await back.send(data, end=True)

        async with asyncio.TaskGroup() as tasks:
            echoing = [tasks.create_task(datagrams()), tasks.create_task(streams())]
            await session.wait_closed()
            for task in echoing:
                task.cancel()


def with_aioquic_client(certificate: Certificate, use: Use, *, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    async def main() -> None:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
        configuration.max_datagram_frame_size = 65536
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.load_verify_locations(str(certificate.authority))
        async with (
            asyncio.timeout(30),
            http3.serve(
                echo, "127.0.0.1", 0, identities=[certificate.identity], webtransport=True, grace_s=1
            ) as server,
            aioquic_connect("127.0.0.1", server.port, configuration=configuration, create_protocol=Peer) as client,
        ):
            session_id = client._quic.get_next_available_stream_id()
            head = [
                (b":method", b"CONNECT"),
                (b":scheme", b"https"),
                (b":authority", b"localhost"),
                (b":path", b"/wt"),
                (b":protocol", b"webtransport"),
                *fields,
            ]
            client.http.send_headers(session_id, head)
            client.transmit()
            client.answer = await client.of(session_id).get()
            while not isinstance(client.answer, dict):  # a refusal also stops the request
                client.answer = await client.of(session_id).get()
            client.session_id = session_id
            await use(client)

    asyncio.run(main())


def test_aioquic_uses_streams_and_datagrams_of_our_server(certificate: Certificate) -> None:
    async def use(client: Any) -> None:
        assert client.answer[b":status"] == b"200"
        stream_id = client.open(client.session_id)
        client.send(stream_id, BLOCK, end=True)
        assert await client.whole(stream_id) == BLOCK
        one_way = client.open(client.session_id, unidirectional=True)
        client.send(one_way, b"one way", end=True)
        assert await client.whole(await client.opened.get()) == b"one way"
        client.http.send_datagram(client.session_id, b"ping")
        client.transmit()
        assert await client.of(-1).get() == b"echo ping"

    with_aioquic_client(certificate, use)


def test_codes_of_resets_go_both_ways_between_aioquic_and_our_server(certificate: Certificate) -> None:
    async def use(client: Any) -> None:
        stream_id = client.open(client.session_id)
        client.send(stream_id, b"begun")
        client.http.send_datagram(client.session_id, b"ping")
        client.transmit()
        await client.of(-1).get()  # what was sent before has arrived: there is no RESET_STREAM_AT
        client._quic.reset_stream(stream_id, to_http_code(41))
        client.transmit()
        kind, code = await client.of(stream_id).get()
        assert (kind, from_http_code(code)) == (StreamReset, 42)

    with_aioquic_client(certificate, use)


def test_aioquic_closes_and_our_server_ends_the_stream(certificate: Certificate) -> None:
    async def use(client: Any) -> None:
        content = SessionClosed(7, "bye").capsule().encode()
        client.http.send_data(client.session_id, content, end_stream=True)
        client.transmit()
        assert await client.whole(client.session_id) == b""

    with_aioquic_client(certificate, use)


def test_aioquic_from_a_page_of_another_origin_is_refused(certificate: Certificate) -> None:
    async def use(client: Any) -> None:
        assert client.answer[b":status"] == b"403"

    with_aioquic_client(certificate, use, fields=((b"origin", b"https://evil.example"),))


# aioquic answers


class EchoServer(Peer):
    """aioquic as a server of sessions: what comes goes back, upside down; `close` closes the session."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.answering: list[asyncio.Future[None]] = []

    def asked(self, event: HeadersReceived) -> None:
        head = dict(event.headers)
        granted = head[b":path"] == b"/wt" and head[b":protocol"] == b"webtransport"
        self.http.send_headers(event.stream_id, [(b":status", b"200" if granted else b"404")], end_stream=not granted)
        self.transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        super().quic_event_received(event)
        while not self.opened.empty():
            stream_id = self.opened.get_nowait()
            self.answering.append(asyncio.ensure_future(self.answer(stream_id)))
        while not self.of(-1).empty():
            self.http.send_datagram(0, self.of(-1).get_nowait()[::-1])
            self.transmit()

    async def answer(self, stream_id: int) -> None:
        content = await self.whole(stream_id)
        if content == b"close":
            self.http.send_data(0, Capsule(CLOSE_SESSION, b"\0\0\0\x09over").encode(), end_stream=True)
            self.transmit()
        elif content == b"reset":
            self._quic.reset_stream(stream_id, to_http_code(77))
            self.transmit()
        elif stream_id & 2:
            self.send(self.open(0, unidirectional=True), content[::-1], end=True)
        else:
            self.send(stream_id, content[::-1], end=True)


@asynccontextmanager
async def session_of_aioquic(certificate: Certificate, peers: list[EchoServer]) -> AsyncIterator[http3.Session]:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN, max_datagram_frame_size=65536)
    configuration.load_cert_chain(certificate.chain, certificate.key)

    def make(*arguments: Any, **options: Any) -> EchoServer:
        peers.append(EchoServer(*arguments, **options))
        return peers[-1]

    server = await aioquic_serve("127.0.0.1", 0, configuration=configuration, create_protocol=make)
    port = server._transport.get_extra_info("sockname")[1]
    try:
        async with (
            asyncio.timeout(30),
            http3.connect(
                "127.0.0.1", port, server_name="localhost", ca=Path(certificate.authority), webtransport=True
            ) as connection,
            await connection.webtransport("localhost", "/wt") as session,
        ):
            yield session
    finally:
        server.close()


def test_our_client_uses_streams_and_datagrams_of_aioquic(certificate: Certificate) -> None:
    async def main() -> None:
        async with session_of_aioquic(certificate, []) as session:
            stream = await session.open_stream()
            await stream.send(BLOCK, end=True)
            assert await stream.receive_all() == BLOCK[::-1]
            one_way = await session.open_stream(unidirectional=True)
            await one_way.send(b"one way", end=True)
            assert await (await session.accept_stream()).receive_all() == b"yaw eno"
            session.send_datagram(b"ping")
            assert await session.receive_datagram() == b"gnip"

    asyncio.run(main())


def test_our_client_hears_how_aioquic_ends_streams_and_sessions(certificate: Certificate) -> None:
    async def main() -> None:
        async with session_of_aioquic(certificate, []) as session:
            stream = await session.open_stream()
            await stream.send(b"reset", end=True)
            with pytest.raises(http3.RequestError) as raised:
                await stream.receive_all()
            assert raised.value.application_code == 77
            stream = await session.open_stream()
            await stream.send(b"close", end=True)
            assert await session.wait_closed() == SessionClosed(9, "over")

    asyncio.run(main())


def test_aioquic_hears_how_our_client_ends_the_session(certificate: Certificate) -> None:
    async def main() -> None:
        peers: list[EchoServer] = []
        async with session_of_aioquic(certificate, peers) as session:
            stream = await session.open_stream()
            await stream.send(b"x", end=True)
            await stream.receive_all()
            await session.close(5, "enough")
            (peer,) = peers
            content = b""
            while not content:
                heard = await peer.of(0).get()
                content = heard[0] if isinstance(heard, tuple) and isinstance(heard[0], bytes) else b""
            (capsule,) = CapsuleReader().feed(content)
            assert SessionClosed.decode(capsule.value) == SessionClosed(5, "enough")

    asyncio.run(main())
