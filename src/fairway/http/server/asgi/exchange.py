"""One request and its response: what `receive` and `send` of an HTTP scope do."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import Any

from fairway.aio.http3 import Request, RequestError
from fairway.http.server.asgi.errors import ClientDisconnectedError, ProtocolMisuseError
from fairway.http.server.asgi.fields import Fields, content_length, date, field_lines
from fairway.http.server.asgi.limits import READ, WRITE, Limits
from fairway.http.server.asgi.patience import Patience
from fairway.http.server.asgi.types import Application, Message, Scope
from fairway.http.server.files.limits import CHUNK_BYTES
from fairway.http.server.files.open_file import OpenFile
from fairway.http3 import H3Code, Priority
from fairway.quic import ConnectionClosed

SMALL_BODY = 64 * 1024
"""Bytes of body that go with the fields in one write."""

_log = logging.getLogger("fairway.server")

_DISCONNECT: Message = {"type": "http.disconnect"}
_STATUS = {status: b"%d" % status for status in range(100, 600)}
_NO_BODY = frozenset({204, 304})
_PLAIN = (b"content-type", b"text/plain; charset=utf-8")


class Phase(IntEnum):
    """What the response is at."""

    BEFORE = 0
    HELD = 1  # the start was sent by the application, and waits for the first bytes of the body
    BODY = 2
    TRAILERS = 3  # the body ended; the application announced trailers
    DONE = 4


class Exchange:
    """Connects an application to a request of an HTTP/3 connection."""

    __slots__ = (
        "_bodyless", "_disconnected", "_fields", "_left", "_limits", "_loop", "_patience", "_phase", "_read",
        "_reading_since", "_request", "_scope", "_sent_before", "_trailers", "_writing_since",
    )  # fmt: skip

    def __init__(self, request: Request, scope: Scope, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self._scope = scope
        self._limits = limits
        self._loop = loop
        self._phase = Phase.BEFORE
        self._fields: Fields = []
        self._left: int | None = None
        """Body bytes that the response's content-length still announces."""
        self._bodyless = False
        self._trailers: bool | Fields = False
        self._read = False
        """True once the application has the whole body of the request."""
        self._patience: Patience | None = None
        """With the client whose body is waited for."""
        self._disconnected = False
        """True once the application was told that the client has gone."""
        self._reading_since = self._writing_since = 0.0
        """When the application began to wait for bytes of the body, and for its own to be taken; 0.0: it does not."""
        self._sent_before = 0
        """Bytes of all streams of the connection that had been sent then."""

    # The whole of it

    async def run(self, application: Application) -> None:
        """Run the application; whatever it does, the request has an answer or is given up."""
        limit = self._limits.max_body
        if limit is not None and int(self._request.field(b"content-length") or 0) > limit:
            self._answer(413, b"Content Too Large\n")
            return
        try:
            await application(self._scope, self.receive, self.send)
        except Exception as error:
            self._failed(error)
        else:
            if self._phase is not Phase.DONE:
                self._unfinished()

    def _failed(self, error: Exception) -> None:
        if self._disconnected:
            _log.debug("%s: the client left: %r", self._title, error)
            return
        _log.error("%s: the application failed", self._title, exc_info=error)
        if self._phase <= Phase.HELD:
            self._answer(500, b"Internal Server Error\n")
        elif self._phase is not Phase.DONE:
            self._give_up(H3Code.H3_INTERNAL_ERROR)

    def _unfinished(self) -> None:
        if self.gone:
            return
        if self._phase <= Phase.HELD:
            _log.error("%s: the application returned without a response", self._title)
            self._answer(500, b"Internal Server Error\n")
        else:
            _log.error("%s: the application returned before its response had ended", self._title)
            self._give_up(H3Code.H3_INTERNAL_ERROR)

    @property
    def _title(self) -> str:
        return f"{self._scope['method']} {self._scope['path']!r}"

    @property
    def gone(self) -> bool:
        """True if nobody reads the response any more."""
        request = self._request
        return request.stopped is not None or request.failure is not None or request.connection.closing is not None

    def overdue(self, now: float) -> bool:
        """True if the client has kept the application waiting too long."""
        if self._reading_since and self._patience is not None and self._patience.left(now - self._reading_since) < 0:
            return True
        limit = self._limits.write_timeout_s
        if not self._writing_since or limit is None or now - self._writing_since <= limit:
            return False
        core = self._request.connection.core
        if core.data_sent - self._sent_before < WRITE or core.at_stream_limit(self._request.stream_id):
            return True
        self._writing_from_now(now)  # the client reads, but it is others' turn
        return False

    def _writing_from_now(self, now: float) -> None:
        self._writing_since = now
        self._sent_before = self._request.connection.core.data_sent

    def expire(self) -> None:
        """The client took too long: answer that if possible, and tell the application that it has gone."""
        if self._phase <= Phase.HELD and not self.gone:
            self._answer(408, b"Request Timeout\n")
        else:
            self._give_up(H3Code.H3_REQUEST_CANCELLED)
        self._request.fail(RequestError(H3Code.H3_REQUEST_CANCELLED, "the client was too slow"))

    def _answer(self, status: int, body: bytes) -> None:
        """The server's own response."""
        fields = [
            (b":status", _STATUS[status]), _PLAIN, (b"content-length", b"%d" % len(body)), (b"date", date()),
        ]  # fmt: skip
        self._phase = Phase.BODY
        if not self.gone:
            self._request.respond(fields, b"" if self._scope["method"] == "HEAD" else body, end=True)
        self._done()

    def _give_up(self, code: H3Code) -> None:
        self._phase = Phase.DONE
        self._request.abort(code)

    def _done(self) -> None:
        self._phase = Phase.DONE
        request = self._request
        if not request.ended:
            request.stop_reading()  # RFC 9114 section 4.1: the answer did not need the rest
        request.writable.fire()  # for a `receive` that waits for the end

    # receive

    async def receive(self) -> Message:
        """The next piece of the request's body; after it, when the client has gone or the response is complete."""
        request = self._request
        if self._read or self._phase is Phase.DONE:
            return await self._until_gone()
        if request.ended:
            self._read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        patience = self._patience = self._patience or Patience(self._limits)
        began = self._reading_since = self._loop.time()
        try:
            data = await request.receive(READ)
        except (RequestError, ConnectionClosed):
            self._disconnected = True
            return _DISCONNECT
        finally:
            self._reading_since = 0.0
        patience.took(len(data), self._loop.time() - began)
        more = request.failure is not None or not request.connection.http.at_end(request.stream_id)
        self._read = not more
        if self._limits.max_body is not None and patience.received > self._limits.max_body:
            return self._too_large()
        return {"type": "http.request", "body": data, "more_body": more}

    def _too_large(self) -> Message:
        if self._phase <= Phase.HELD:
            self._answer(413, b"Content Too Large\n")
        else:
            self._give_up(H3Code.H3_REQUEST_CANCELLED)
        self._disconnected = True
        return _DISCONNECT

    async def _until_gone(self) -> Message:
        request = self._request
        try:
            while self._phase is not Phase.DONE and not self.gone:
                await request.connection.wait(request.writable)
        except ConnectionClosed:
            pass
        self._disconnected = self._disconnected or self.gone
        return _DISCONNECT

    # send

    async def send(self, message: Message) -> None:
        """Act on a message; once the response is complete, what follows is ignored, as ASGI says.

        `ClientDisconnectedError` if the client has gone, `ProtocolMisuseError` for a message that has no place.
        """
        if self._phase is Phase.DONE:
            if self.gone:
                raise self._left_error()
            return
        kind = message["type"]
        if kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            await self._body(message.get("body", b""), not message.get("more_body", False))
        else:
            handler = _ON_MESSAGE.get(kind)
            if handler is None:
                raise ProtocolMisuseError(f"{kind!r} is no message of an HTTP response")
            await handler(self, message)

    def _start(self, message: Message) -> None:
        if self._phase is not Phase.BEFORE:
            raise ProtocolMisuseError("http.response.start was sent twice")
        status = int(message["status"])
        if not 200 <= status <= 599:
            raise ProtocolMisuseError(f"a response's status is 200 to 599, not {status}")
        lines = field_lines(message.get("headers", ()))
        self._bodyless = status in _NO_BODY or self._scope["method"] == "HEAD"
        self._left = None if self._bodyless else content_length(lines)
        self._trailers = bool(message.get("trailers", False))
        names = [name for name, _ in lines]
        if b"date" not in names:
            lines.append((b"date", date()))
        if b"priority" in names:
            self._prioritize(lines)
        self._fields = [(b":status", _STATUS[status]), *lines]
        self._phase = Phase.HELD

    def _prioritize(self, lines: Fields) -> None:
        """The response's `priority` goes over the request's, parameter by parameter (RFC 9218 section 8)."""
        own = b",".join(value for name, value in lines if name == b"priority")
        asked = self._request.field(b"priority") or b""
        priority = Priority.parse(asked + b"," + own)
        core = self._request.connection.core
        core.set_priority(self._request.stream_id, priority.urgency, priority.incremental)

    async def _body(self, data: bytes | bytearray | memoryview, last: bool) -> None:
        if self._phase is Phase.BEFORE or self._phase is Phase.TRAILERS:
            raise ProtocolMisuseError("the body goes after http.response.start, and before the trailers")
        if self.gone:
            raise self._left_error()
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._bodyless:
            data = b""
        elif self._left is not None:
            self._count(len(data), last)
        end = last and not self._trailers
        if self._phase is Phase.HELD:
            first = data if len(data) <= SMALL_BODY else data[:SMALL_BODY]
            rest = len(data) > SMALL_BODY
            self._request.respond(self._fields, first, end=end and not rest)
            self._phase = Phase.BODY
            if rest:
                await self._write(memoryview(data)[SMALL_BODY:], end)
        elif data or end:
            await self._write(data, end)
        if end:
            self._done()
        elif last:
            self._phase = Phase.TRAILERS

    def _count(self, length: int, last: bool) -> None:
        assert self._left is not None
        self._left -= length
        if self._left < 0:
            raise ProtocolMisuseError(f"the body is {-self._left} bytes longer than its content-length")
        if last and self._left:
            raise ProtocolMisuseError(f"the body is {self._left} bytes shorter than its content-length")

    async def _write(self, data: bytes | memoryview, end: bool) -> None:
        """Send body bytes; a client has its time for each piece of them."""
        size, loop, request = len(data), self._loop, self._request
        try:
            if size <= WRITE:
                self._writing_from_now(loop.time())
                await request.send(data, end=end)
                return
            for at in range(0, size, WRITE):
                self._writing_from_now(loop.time())
                await request.send(data[at : at + WRITE], end=end and at + WRITE >= size)
        except (RequestError, ConnectionClosed) as error:
            raise self._left_error() from error
        finally:
            self._writing_since = 0.0

    def _left_error(self) -> ClientDisconnectedError:
        self._disconnected = True
        return ClientDisconnectedError("the client has gone")

    # Extensions

    async def _early_hint(self, message: Message) -> None:
        """103 (RFC 8297)."""
        if self._phase <= Phase.HELD and not self.gone:
            links = [(b"link", bytes(link).strip()) for link in message["links"]]
            self._request.inform([(b":status", b"103"), *links])

    async def _trailing(self, message: Message) -> None:
        if self._phase is not Phase.TRAILERS:
            raise ProtocolMisuseError("trailers go after the body of a response that was started with trailers=True")
        if not isinstance(self._trailers, list):
            self._trailers = []
        self._trailers += field_lines(message.get("headers", ()))
        if message.get("more_trailers", False):
            return
        if self.gone:
            raise self._left_error()
        if self._trailers and b"trailers" in (self._request.field(b"te") or b""):
            self._request.send_trailers(self._trailers)
        else:
            await self._write(b"", True)  # ASGI: trailers are for clients that say that they take them
        self._done()

    async def _zero_copy(self, message: Message) -> None:
        """A file by its descriptor, which stays the application's."""
        descriptor = message["file"].fileno()
        offset, count = message.get("offset"), message.get("count")
        start = os.lseek(descriptor, 0, os.SEEK_CUR) if offset is None else offset
        size = os.fstat(descriptor).st_size
        stop = size if count is None else min(start + count, size)
        await self._file(descriptor, start, stop, not message.get("more_body", False))
        if offset is None:
            os.lseek(descriptor, stop, os.SEEK_SET)

    async def _path(self, message: Message) -> None:
        """A whole file by its path, which ends the response."""
        descriptor = await asyncio.to_thread(os.open, message["path"], os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._file(descriptor, 0, os.fstat(descriptor).st_size, True)
        finally:
            os.close(descriptor)

    async def _file(self, descriptor: int, start: int, stop: int, last: bool) -> None:
        if self._bodyless or start >= stop:
            await self._body(b"", last)
            return
        file = OpenFile(os.dup(descriptor), os.fstat(descriptor))
        try:
            for at in range(start, stop, CHUNK_BYTES):
                data = await file.read(at, min(CHUNK_BYTES, stop - at))
                await self._body(data, last and at + CHUNK_BYTES >= stop)
                await asyncio.sleep(0)  # neither the read nor the write need have waited: others get their turn
        finally:
            file.close()


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise ProtocolMisuseError(f"a body is a byte string, not {type(data).__name__}")


_ON_MESSAGE: dict[str, Callable[[Exchange, Message], Coroutine[Any, Any, None]]] = {
    "http.response.early_hint": Exchange._early_hint,
    "http.response.trailers": Exchange._trailing,
    "http.response.zerocopysend": Exchange._zero_copy,
    "http.response.pathsend": Exchange._path,
}
