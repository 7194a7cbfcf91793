"""WebSockets over HTTP/3 (RFC 9220), with Starlette and with bare applications."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgi_serving import serving
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode

from fairway.aio import http3
from fairway.http.server.asgi import Limits, Receive, Scope, Send
from fairway.http.server.asgi import websocket as websocket_room


class Client:
    """A WebSocket's other end, over extended CONNECT."""

    def __init__(self, stream: http3.ClientStream, frames: FrameProtocol) -> None:
        self.stream = stream
        self.frames = frames
        self._arrived: list[Frame] = []

    async def send(self, data: bytes | bytearray) -> None:
        await self.stream.send(bytes(data))

    async def frame(self) -> Frame:
        """The next frame."""
        while not self._arrived:
            data = await self.stream.receive()
            if not data:
                raise EOFError
            self.frames.receive_bytes(data)
            self._arrived += self.frames.received_frames()
        return self._arrived.pop(0)

    async def message(self) -> Any:
        """The next message's payload."""
        parts: list[Any] = []
        while True:
            frame = await self.frame()
            assert frame.opcode in (Opcode.TEXT, Opcode.BINARY), frame
            parts.append(frame.payload)
            if frame.message_finished:
                return "".join(parts) if isinstance(parts[0], str) else b"".join(parts)


async def open_socket(
    connection: http3.ClientConnection,
    path: str = "/",
    fields: list[tuple[bytes, bytes]] | None = None,
    extensions: list[PerMessageDeflate] | None = None,
) -> Client:
    head = [
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":authority", b"localhost"),
        (b":path", path.encode()), (b"sec-websocket-version", b"13"), *(fields or []),
    ]  # fmt: skip
    await connection.wait_settings()
    stream = await connection.begin(head)
    await stream.wait_response()
    return Client(stream, FrameProtocol(True, list(extensions or [])))


def talk(application: Any, conversation: Callable[[Any], Awaitable[None]], limits: Limits | None = None) -> None:
    """A conversation with an application over one connection."""

    async def main() -> None:
        async with serving(application, limits=limits) as served, served.dial() as connection:
            assert (await connection.wait_settings()).enable_connect_protocol
            await asyncio.wait_for(conversation(connection), 20)

    asyncio.run(main())


async def _echo(socket: WebSocket) -> None:
    await socket.accept(subprotocol="b" if "b" in socket.scope["subprotocols"] else None, headers=[(b"x-hello", b"1")])
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") == "close":
            await socket.close(4001, "as you wish")
            return
        if message.get("text") is not None:
            await socket.send_text(message["text"])
        else:
            await socket.send_bytes(message["bytes"])


ECHO = Starlette(routes=[WebSocketRoute("/", _echo)])


def test_messages_of_both_kinds_and_all_sizes_come_back() -> None:
    async def conversation(connection: Any) -> None:
        client = await open_socket(connection)
        assert client.stream.status == 200
        for payload in ("", "hé", b"", b"\0\xff", "x" * 300_000, bytes(1_000_000)):
            sending = asyncio.create_task(client.send(client.frames.send_data(payload)))
            assert await client.message() == payload
            await sending

    talk(ECHO, conversation)


def test_a_message_in_fragments_is_one_and_pings_go_between() -> None:
    async def conversation(connection: Any) -> None:
        client = await open_socket(connection)
        await client.send(client.frames.send_data("one ", fin=False))
        await client.send(client.frames.ping(b"there?"))
        pong = await client.frame()
        assert (pong.opcode, bytes(pong.payload)) == (Opcode.PONG, b"there?")
        await client.send(client.frames.send_data("two", fin=True))
        assert await client.message() == "one two"

    talk(ECHO, conversation)


def test_subprotocol_and_headers_are_in_the_response() -> None:
    async def conversation(connection: Any) -> None:
        client = await open_socket(connection, fields=[(b"sec-websocket-protocol", b"a, b")])
        assert (b"sec-websocket-protocol", b"b") in client.stream.response
        assert (b"x-hello", b"1") in client.stream.response

    talk(ECHO, conversation)


def test_either_side_closes_with_code_and_reason() -> None:
    async def conversation(connection: Any) -> None:
        client = await open_socket(connection)
        await client.send(client.frames.send_data("close"))
        frame = await client.frame()
        assert frame.opcode is Opcode.CLOSE
        assert frame.payload == (4001, "as you wish")
        await client.stream.send(client.frames.close(4001), end=True)
        client = await open_socket(connection)
        await client.send(client.frames.close(1001, "going"))
        assert (await client.frame()).payload[0] == 1001
        with pytest.raises(EOFError):
            await client.frame()

    talk(ECHO, conversation)


def test_the_application_is_told_how_its_client_left() -> None:
    told: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        assert scope["scheme"] == "wss"
        assert "method" not in scope
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        message = await receive()
        with pytest.raises(OSError, match="gone"):
            await send({"type": "websocket.send", "text": "too late"})
        told.append((message["type"], message["code"], message["reason"]))
        done.set()

    done = asyncio.Event()

    async def conversation(connection: Any) -> None:
        for leave in ("close", "reset", "end"):
            client = await open_socket(connection)
            if leave == "close":
                await client.send(client.frames.close(3001, "bye"))
            elif leave == "reset":
                client.stream.abort()
            else:
                await client.stream.send(b"", end=True)
            await done.wait()
            done.clear()

    talk(application, conversation)
    abnormal = ("websocket.disconnect", 1006, "")
    assert told == [("websocket.disconnect", 3001, "bye"), abnormal, abnormal]


@pytest.mark.parametrize(("status", "messages"), [
    (403, [{"type": "websocket.close"}]),
    (401, [
        {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]},
        {"type": "websocket.http.response.body", "body": b"who", "more_body": True},
        {"type": "websocket.http.response.body", "body": b" are you?"},
    ]),
])  # fmt: skip
def test_a_websocket_may_be_refused_plainly_or_with_a_response(status: int, messages: list[Any]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        assert "websocket.http.response" in scope["extensions"]
        await receive()
        for message in messages:
            await send(message)

    async def conversation(connection: Any) -> None:
        client = await open_socket(connection)
        assert client.stream.status == status
        assert await client.stream.receive_all() == (b"who are you?" if status == 401 else b"")

    talk(application, conversation)


def test_an_application_that_fails_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["path"] == "/open":
            await send({"type": "websocket.accept"})
        raise RuntimeError("on purpose")

    async def conversation(connection: Any) -> None:
        client = await open_socket(connection, "/open")
        assert (await client.frame()).payload[0] == 1011
        await client.stream.send(client.frames.close(1011), end=True)
        assert (await open_socket(connection, "/before")).stream.status == 500

    talk(application, conversation)
    assert "on purpose" in caplog.text


def test_what_breaks_the_protocol_is_closed_with_its_code() -> None:
    async def conversation(connection: Any) -> None:
        for data, code in (
            (b"\x81\x02hi", 1002),  # not masked
            (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # no UTF-8
            (b"\x83\x80\0\0\0\0", 1002),  # no such opcode
            (FrameProtocol(True, []).send_data(bytes(5000)), 1009),
        ):
            client = await open_socket(connection)
            await client.send(data)
            assert (await client.frame()).payload[0] == code

    talk(ECHO, conversation, Limits(max_message=4096))


def test_messages_are_compressed_where_the_client_offers_it_and_bombs_are_not_inflated() -> None:
    async def conversation(connection: Any) -> None:
        extension = PerMessageDeflate()
        offer = b"permessage-deflate; client_max_window_bits"
        client = await open_socket(connection, fields=[(b"sec-websocket-extensions", offer)], extensions=[])
        accepted = dict(client.stream.response)[b"sec-websocket-extensions"].decode()
        extension.finalize(accepted)
        client.frames = FrameProtocol(True, [extension])
        await client.send(client.frames.send_data("again " * 1000))
        assert await client.message() == "again " * 1000
        bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = bomb.compress(bytes(200_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
        frame = b"\xc2\xff" + len(packed[:-4]).to_bytes(8, "big") + bytes(4) + packed[:-4]
        sending = asyncio.create_task(client.send(frame))
        frames = await client.frame()
        assert frames.payload[0] == 1009
        sending.cancel()

    talk(ECHO, conversation, Limits(max_message=100_000))


def test_a_silent_client_is_pinged_and_then_given_up() -> None:
    async def conversation(connection: Any) -> None:
        client = await open_socket(connection)
        for _ in range(2):
            assert (await client.frame()).opcode is Opcode.PING
        with pytest.raises(http3.RequestError):
            await client.frame()

    talk(ECHO, conversation, Limits(websocket_ping_s=0.05))


def test_a_client_that_sends_faster_than_the_application_reads_waits() -> None:
    async def main() -> None:
        go, count = asyncio.Event(), 0
        finished = asyncio.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal count
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await receive()
            await send({"type": "websocket.accept"})
            await go.wait()
            while (await receive())["type"] == "websocket.receive":
                count += 1
                if count == 400:
                    finished.set()

        async with serving(application) as served, served.dial() as connection:
            client = await open_socket(connection)
            data = b"".join(bytes(client.frames.send_data(bytes(50_000))) for _ in range(400))
            sending = asyncio.create_task(client.send(data))
            done, _ = await asyncio.wait([sending], timeout=0.5)
            assert not done
            go.set()
            await sending
            await finished.wait()

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize(("count", "size"), [(16, 1), (2, 600_000)])
def test_past_so_many_messages_or_bytes_that_nobody_takes_nothing_more_is_read(count: int, size: int) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})
            if scope["type"] != "websocket":
                return
            await receive()
            await send({"type": "websocket.accept"})
            await go.wait()
            while (await receive())["type"] == "websocket.receive":
                pass

        async with serving(application) as served, served.dial() as connection:
            client = await open_socket(connection)
            ping, full = client.frames.ping(b"there?"), bytes(size)
            for _ in range(count - 1):
                await client.send(client.frames.send_data(full))
            await client.send(ping)
            assert (await client.frame()).opcode is Opcode.PONG
            await client.send(client.frames.send_data(full) + ping)
            pong = asyncio.create_task(client.frame())
            for _ in range(5):  # whatever was sent has arrived by then
                await (await connection.request("GET", "localhost")).receive_all()
            assert not pong.done()
            go.set()
            assert (await pong).opcode is Opcode.PONG
            await client.send(client.frames.close(1000))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_client_that_does_not_answer_a_close_is_left_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_room, "WEBSOCKET_CLOSE_S", 0.1)

    async def main() -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.close"})

        async with serving(application) as served, served.dial() as connection:
            client = await open_socket(connection)
            assert (await client.frame()).opcode is Opcode.CLOSE
            while served.service.running:  # noqa: ASYNC110 - a service tells of it only by the figure
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 30))
