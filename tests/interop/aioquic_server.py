"""An HTTP/3 server made of aioquic's library alone, serving what `peer_app` serves."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent, StopSendingReceived, StreamReset
from peer_app import BLOCK


class Protocol(QuicConnectionProtocol):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http: H3Connection | None = None
        self._requests: dict[int, dict[bytes, bytes]] = {}
        self._digests: dict[int, tuple[Any, int]] = {}
        self._sending: dict[int, asyncio.Task[None]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if isinstance(event, StreamReset | StopSendingReceived) and event.stream_id in self._sending:
            self._sending.pop(event.stream_id).cancel()
        if self._http is not None:
            for http_event in self._http.handle_event(event):
                self._handle(http_event)

    def _handle(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self._requests[event.stream_id] = dict(event.headers)
            self._digests[event.stream_id] = (hashlib.sha256(), 0)
        if isinstance(event, DataReceived):
            digest, count = self._digests[event.stream_id]
            digest.update(event.data)
            self._digests[event.stream_id] = (digest, count + len(event.data))
        if isinstance(event, HeadersReceived | DataReceived) and event.stream_ended:
            self._answer(event.stream_id)

    def _answer(self, stream_id: int) -> None:
        assert self._http is not None
        request = self._requests.pop(stream_id)
        digest, count = self._digests.pop(stream_id)
        path = request[b":path"].decode()
        if path == "/upload":
            self._respond(stream_id, request, f"{count} {digest.hexdigest()}".encode())
        elif path == "/large":
            value = request[b"x-large"]
            self._respond(stream_id, request, b"%d" % len(value), [(b"x-large", value[::-1])])
        elif path == "/trailers":
            self._http.send_headers(stream_id, [(b":status", b"200")])
            self._http.send_data(stream_id, b"body", end_stream=False)
            self._http.send_headers(stream_id, [(b"x-checksum", b"42")], end_stream=True)
        elif path.startswith("/big/"):
            self._sending[stream_id] = asyncio.ensure_future(self._send(stream_id, int(path[5:])))
        else:
            self._respond(stream_id, request, b"hello")
        self.transmit()

    def _respond(
        self, stream_id: int, request: dict[bytes, bytes], body: bytes, fields: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        assert self._http is not None
        head = [(b":status", b"200"), (b"content-length", b"%d" % len(body)), *(fields or [])]
        if request[b":method"] == b"HEAD":
            self._http.send_headers(stream_id, head, end_stream=True)
            return
        self._http.send_headers(stream_id, head)
        self._http.send_data(stream_id, body, end_stream=True)

    async def _send(self, stream_id: int, left: int) -> None:
        assert self._http is not None
        self._http.send_headers(stream_id, [(b":status", b"200"), (b"content-length", b"%d" % left)])
        while left:
            piece = BLOCK[:left]
            left -= len(piece)
            self._http.send_data(stream_id, piece, end_stream=not left)
            self.transmit()
            await asyncio.sleep(0.001)


async def main(port: int, chain: str, key: str) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(chain, key)
    connections: list[Protocol] = []

    def make(*arguments: Any, **options: Any) -> Protocol:
        connections.append(Protocol(*arguments, **options))
        return connections[-1]

    await serve("127.0.0.1", port, configuration=configuration, create_protocol=make)
    print("ready", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    for connection in connections:
        connection.close()
        connection.transmit()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
