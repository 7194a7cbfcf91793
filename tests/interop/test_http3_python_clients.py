"""Python's other HTTP/3 clients against our server: aioquic, and niquests on qh3."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Iterator
from typing import Any

import niquests
import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from http3_origin import Origin, content, origin

from peer_faults import QH3_LOSES_A_STREAM, despite


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with origin(tmp_path_factory.mktemp("origin")) as running:
        yield running


class AioquicClient(QuicConnectionProtocol):
    """Requests on one connection of aioquic."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.http = H3Connection(self._quic)
        self._events: dict[int, deque[H3Event]] = {}
        self._done: dict[int, asyncio.Future[deque[H3Event]]] = {}

    def quic_event_received(self, event: Any) -> None:
        for happened in self.http.handle_event(event):
            if isinstance(happened, (HeadersReceived, DataReceived)) and happened.stream_id in self._events:
                self._events[happened.stream_id].append(happened)
                if happened.stream_ended:
                    self._done.pop(happened.stream_id).set_result(self._events.pop(happened.stream_id))

    async def ask(self, path: bytes, method: bytes = b"GET", body: bytes = b"") -> deque[H3Event]:
        stream_id = self._quic.get_next_available_stream_id()
        self._events[stream_id] = deque()
        done = self._done[stream_id] = asyncio.get_running_loop().create_future()
        fields = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
        self.http.send_headers(stream_id, fields, end_stream=not body)
        if body:
            self.http.send_data(stream_id, body, end_stream=True)
        self.transmit()
        return await done


def with_aioquic(server: Origin, use: Any) -> None:
    async def main() -> None:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.load_verify_locations(str(server.certificate))
        async with connect(
            "127.0.0.1", server.port, configuration=configuration, create_protocol=AioquicClient
        ) as client:
            await use(client)
            client.close(ErrorCode.H3_NO_ERROR)

    asyncio.run(main())


def body_of(events: deque[H3Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, DataReceived))


def test_aioquic_gets_and_posts(server: Origin) -> None:
    async def use(client: AioquicClient) -> None:
        assert body_of(await client.ask(b"/bytes/300000")) == content(300_000)
        assert body_of(await client.ask(b"/echo", b"POST", content(2_000_000))) == content(2_000_000)

    with_aioquic(server, use)


def test_aioquic_sees_trailers(server: Origin) -> None:
    async def use(client: AioquicClient) -> None:
        events = await client.ask(b"/trailers")
        fields = [event.headers for event in events if isinstance(event, HeadersReceived)]
        assert fields[-1] == [(b"x-sum", b"4")]
        assert body_of(events) == b"body"

    with_aioquic(server, use)


def test_aioquic_asks_1999_times_on_one_connection(server: Origin) -> None:
    before = len(server.log.connections)

    async def use(client: AioquicClient) -> None:
        for _ in range(20):  # aioquic does not wait for credit by itself: our limit is 128 at once
            await asyncio.gather(*(client.ask(b"/image/1.svg") for _ in range(100)))

    with_aioquic(server, use)
    assert len(server.log.connections) == before + 1


def asking(server: Origin, **options: Any) -> niquests.Session:
    """A session of niquests that speaks HTTP/3 to the server at once."""
    session = niquests.Session(
        disable_http1=True, disable_http2=True, resolver="in-memory://default/?hosts=localhost:127.0.0.1", **options
    )
    session.trust_env = False
    session.verify = str(server.certificate)
    session.quic_cache_layer.add_domain("localhost", server.port)
    return session


@despite(QH3_LOSES_A_STREAM)
def test_niquests_gets_by_http3(server: Origin) -> None:
    with asking(server) as session:
        response = session.get(f"{server.url}/bytes/300000")
        assert response.http_version == 30
        assert response.content == content(300_000)


@despite(QH3_LOSES_A_STREAM)
def test_niquests_posts_and_reads_large_fields(server: Origin) -> None:
    with asking(server) as session:
        sent = content(3_000_000)  # niquests reads nothing while it sends: an echo of so much would wait for ever
        assert session.post(f"{server.url}/digest", data=sent).text == hashlib.sha256(sent).hexdigest()
        response = session.get(f"{server.url}/fields", headers={"x-large": "a" * 4_000})  # it cannot encode 10,000
        assert len(response.headers["x-large"]) == 20_000
        assert int(response.text or "0") > 4_000


@despite(QH3_LOSES_A_STREAM)
def test_niquests_multiplexes(server: Origin) -> None:
    with asking(server, multiplexed=True) as session:
        responses = [session.get(f"{server.url}/bytes/{1000 + index}") for index in range(100)]
        session.gather()
        assert [response.content for response in responses] == [content(1000 + index) for index in range(100)]
