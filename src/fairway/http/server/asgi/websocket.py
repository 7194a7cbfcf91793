"""A WebSocket over HTTP/3 (RFC 9220): what `receive` and `send` of a WebSocket scope do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from wsproto.frame_protocol import CloseReason

from fairway.aio.http3 import Request, RequestError
from fairway.aio.signal import Signal
from fairway.http.server.asgi.errors import ClientDisconnectedError, ProtocolMisuseError
from fairway.http.server.asgi.fields import Fields, date, field_lines
from fairway.http.server.asgi.limits import WEBSOCKET_CLOSE_S, WEBSOCKET_QUEUE, WEBSOCKET_QUEUE_BYTES, Limits
from fairway.http.server.asgi.messages import Closed, Messages, Ping, Received
from fairway.http.server.asgi.types import Application, Message, Scope
from fairway.http3 import H3Code
from fairway.quic import ConnectionClosed

READ = 64 * 1024

_log = logging.getLogger("fairway.server")


class Phase(Enum):
    """What the WebSocket is at."""

    CONNECTING = "awaiting accept or close"
    OPEN = "open"
    DENYING = "answering by HTTP"
    CLOSED = "closed by us, the client, or the loss of the stream"


class WebSocket:
    """Connects an application to an extended CONNECT request."""

    def __init__(self, request: Request, scope: Scope, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self._scope = scope
        self._limits = limits
        self._loop = loop
        self._phase = Phase.CONNECTING
        self._messages = Messages(limits.max_message)
        self._connect_told = False
        self._queue: deque[Message] = deque()
        self._queued = 0
        """Bytes (or characters) of the messages in the queue."""
        self._arrived = Signal()
        self._taken = Signal()
        self._end: Message | None = None
        """What the application is told last."""
        self._ours = False
        """True if the application closed."""
        self._writing = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._pinger: asyncio.Task[None] | None = None
        self._heard = True
        self._denial: Fields = []
        self._waiting_since = 0.0
        """When a frame began to wait for its place in the send buffer; 0.0: none does."""

    # The whole of it

    async def run(self, application: Application) -> None:
        """Run the application; when it returns the WebSocket is closed."""
        if self._request.field(b"sec-websocket-version") not in (b"13", None):
            self._respond([(b":status", b"400"), (b"sec-websocket-version", b"13")], end=True)
            return
        code = CloseReason.NORMAL_CLOSURE
        try:
            await application(self._scope, self.receive, self.send)
        except Exception as error:
            if not (self._end is not None and isinstance(error, OSError)):
                _log.error("WebSocket %r: the application failed", self._scope["path"], exc_info=error)
            code = CloseReason.INTERNAL_ERROR
        try:
            await self._wind_up(code)
        finally:
            for task in (self._reader, self._pinger):
                if task is not None:
                    task.cancel()

    async def _wind_up(self, code: CloseReason) -> None:
        """End what the application left open, and give the client a moment to say that it has closed as well."""
        if self._phase is Phase.CONNECTING:
            if not self._gone:
                self._respond([(b":status", b"500" if code is CloseReason.INTERNAL_ERROR else b"403")], end=True)
        elif self._phase is Phase.DENYING:
            self._request.abort(H3Code.H3_INTERNAL_ERROR)
        elif self._phase is Phase.OPEN:
            with contextlib.suppress(ClientDisconnectedError):
                await self._close(int(code), "")
        if self._reader is not None and not self._reader.done():
            await asyncio.wait([self._reader], timeout=WEBSOCKET_CLOSE_S)

    @property
    def _gone(self) -> bool:
        request = self._request
        return request.stopped is not None or request.failure is not None or request.connection.closing is not None

    def overdue(self, now: float) -> bool:
        """True if the client has kept the application waiting too long to take what it sends."""
        since, limit = self._waiting_since, self._limits.write_timeout_s
        return bool(since) and limit is not None and now - since > limit

    def expire(self) -> None:
        """The client does not take what is sent."""
        self._request.abort(H3Code.H3_REQUEST_CANCELLED)
        self._request.fail(RequestError(H3Code.H3_REQUEST_CANCELLED, "the client was too slow"))

    # receive

    async def receive(self) -> Message:
        """`websocket.connect`, then the client's messages, then `websocket.disconnect`."""
        if not self._connect_told:
            self._connect_told = True
            return {"type": "websocket.connect"}
        if self._phase is Phase.CONNECTING or self._phase is Phase.DENYING:
            await self._until_gone()
        while not self._queue:
            if self._end is not None:
                return self._end
            await self._arrived.wait()
        message = self._queue.popleft()
        self._queued -= len(message.get("text") or message.get("bytes") or "")
        self._taken.fire()
        return message

    async def _until_gone(self) -> None:
        """Before the WebSocket is open nothing can come but the end."""
        with contextlib.suppress(ConnectionClosed):
            while self._phase in (Phase.CONNECTING, Phase.DENYING) and not self._gone:
                await self._request.connection.wait(self._request.writable)
        if self._gone:
            self._over(CloseReason.ABNORMAL_CLOSURE, "")

    def _over(self, code: int, reason: str) -> None:
        """Nothing more comes."""
        self._phase = Phase.CLOSED
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": int(code), "reason": reason}
        self._arrived.fire()

    async def _read(self) -> None:
        """Read ahead of the application, up to a bound; answer pings and the end."""
        try:
            while data := await self._request.receive(READ):
                self._heard = True
                for event in self._messages.receive(data):
                    await self._event(event)
                    if self._end is not None and not self._ours:
                        return
            self._over(CloseReason.ABNORMAL_CLOSURE, "")  # an end without a close frame
            self._request.abort(H3Code.H3_REQUEST_CANCELLED)
        except (RequestError, ConnectionClosed, ClientDisconnectedError):
            self._over(CloseReason.ABNORMAL_CLOSURE, "")

    async def _event(self, event: Received | Ping | Closed) -> None:
        if isinstance(event, Closed):
            await self._closed(event)
        elif self._phase is not Phase.OPEN:
            return  # we closed: what the client still sent is dropped
        elif isinstance(event, Ping):
            await self._write(self._messages.pong(event.payload))
        else:
            text = event.payload if isinstance(event.payload, str) else None
            payload = event.payload if text is None else None
            self._queue.append({"type": "websocket.receive", "text": text, "bytes": payload})
            self._queued += len(event.payload)
            self._arrived.fire()
            while len(self._queue) >= WEBSOCKET_QUEUE or self._queued >= WEBSOCKET_QUEUE_BYTES:
                await self._taken.wait()

    async def _closed(self, event: Closed) -> None:
        """The client closed, or broke the protocol: the answer is a close frame, unless ours went already."""
        if self._phase is Phase.OPEN:
            self._over(event.told, event.reason)
            await self._write(self._messages.close(event.answer, ""), end=True)
        self._request.stop_reading()
        self._over(event.told, event.reason)

    # send

    async def send(self, message: Message) -> None:
        """Act on a message; `ClientDisconnectedError` if the client has gone, `ProtocolMisuseError` if not due."""
        kind = message["type"]
        handler = _ON_MESSAGE.get((self._phase, kind))
        if handler is not None:
            if self._gone:
                self._over(CloseReason.ABNORMAL_CLOSURE, "")
                raise ClientDisconnectedError("the client has gone")
            await handler(self, message)
        elif self._phase is Phase.CLOSED and not self._ours and kind in ("websocket.send", "websocket.close"):
            raise ClientDisconnectedError("the client has gone")
        else:
            raise ProtocolMisuseError(f"{kind!r} has no place: the WebSocket is {self._phase.value}")

    async def _accept(self, message: Message) -> None:
        lines = field_lines(message.get("headers", ()))
        if any(name == b"sec-websocket-protocol" for name, _ in lines):
            raise ProtocolMisuseError("the subprotocol goes into `subprotocol`, not among the headers")
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            lines.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        extensions = self._messages.negotiate(
            value for name, value in self._request.fields if name == b"sec-websocket-extensions"
        )
        if extensions:
            lines.append((b"sec-websocket-extensions", extensions))
        self._respond([(b":status", b"200"), *lines])
        self._phase = Phase.OPEN
        self._reader = self._loop.create_task(self._read())
        if self._limits.websocket_ping_s is not None:
            self._pinger = self._loop.create_task(self._keep_alive(self._limits.websocket_ping_s))

    async def _refuse(self, message: Message) -> None:
        self._respond([(b":status", b"403"), (b"content-length", b"0")], end=True)
        self._ours = True
        self._over(CloseReason.ABNORMAL_CLOSURE, "")

    async def _send_message(self, message: Message) -> None:
        text, data = message.get("text"), message.get("bytes")
        if text is not None and data is None:
            await self._write(self._messages.send(text))
        elif data is not None and text is None:
            await self._write(self._messages.send(bytes(data)))
        else:
            raise ProtocolMisuseError("websocket.send has either text or bytes")

    async def _send_close(self, message: Message) -> None:
        self._ours = True
        await self._close(message.get("code", 1000) or 1000, message.get("reason") or "")

    async def _close(self, code: int, reason: str) -> None:
        frame = self._messages.close(code, reason)
        self._over(code, reason)
        await self._write(frame, end=True)

    async def _deny(self, message: Message) -> None:
        """The denial response extension: HTTP instead of a WebSocket."""
        self._denial = [(b":status", b"%d" % int(message["status"])), *field_lines(message.get("headers", ()))]
        self._phase = Phase.DENYING

    async def _deny_body(self, message: Message) -> None:
        body, last = bytes(message.get("body", b"")), not message.get("more_body", False)
        if self._denial:
            fields, self._denial = self._denial, []
            self._respond(fields)
        await self._write(body, end=last)
        if last:
            self._ours = True
            self._over(CloseReason.ABNORMAL_CLOSURE, "")
            self._request.stop_reading()

    # Bytes

    def _respond(self, fields: Fields, *, end: bool = False) -> None:
        self._request.respond([*fields, (b"date", date())], end=end)

    async def _write(self, data: bytes | bytearray, *, end: bool = False) -> None:
        """Send bytes, those of one frame together."""
        try:
            async with self._writing:
                self._waiting_since = self._loop.time()
                await self._request.send(data, end=end)
        except (RequestError, ConnectionClosed) as error:
            self._over(CloseReason.ABNORMAL_CLOSURE, "")
            raise ClientDisconnectedError("the client has gone") from error
        finally:
            self._waiting_since = 0.0

    async def _keep_alive(self, interval_s: float) -> None:
        """Ping a client that is silent; give it up if it stays so."""
        unanswered = 0
        with contextlib.suppress(ClientDisconnectedError):
            while self._phase is Phase.OPEN:
                self._heard = False
                await asyncio.sleep(interval_s)
                unanswered = 0 if self._heard else unanswered + 1
                if unanswered > 2:
                    self.expire()
                elif not self._heard and self._phase is Phase.OPEN and not self._writing.locked():
                    await self._write(self._messages.ping())


_ON_MESSAGE: dict[tuple[Phase, str], Callable[[WebSocket, Message], Coroutine[Any, Any, None]]] = {
    (Phase.CONNECTING, "websocket.accept"): WebSocket._accept,
    (Phase.CONNECTING, "websocket.close"): WebSocket._refuse,
    (Phase.CONNECTING, "websocket.http.response.start"): WebSocket._deny,
    (Phase.DENYING, "websocket.http.response.body"): WebSocket._deny_body,
    (Phase.OPEN, "websocket.send"): WebSocket._send_message,
    (Phase.OPEN, "websocket.close"): WebSocket._send_close,
}
