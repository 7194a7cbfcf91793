"""One request and its response on a pool's connection: sent again where that is safe, each step within its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from fairway.aio import ClosedBy, ConnectionClosed
from fairway.aio.http3 import ClientStream, RequestError
from fairway.http.client.limits import PIECE, RETRIES
from fairway.http.client.pool import Lease, Pool, Target
from fairway.http3 import Fields
from fairway.http3.connection import SMALL_BODY
from fairway.quic import UsageError

Body = bytes | AsyncIterable[bytes] | Callable[[], AsyncIterable[bytes]]
"""Bytes; what gives them once; or a function that gives them as often as it is called, so that they can be resent."""

TOO_EARLY = 425  # RFC 8470 section 5.2

_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})  # RFC 9110 section 9.2.1

T = TypeVar("T")


class StepTimeout(TimeoutError):  # noqa: N818 - a TimeoutError, told more exactly
    """A step took too long: "pool" (waiting for a free stream), "connect", "write" or "read"."""

    def __init__(self, step: str, seconds: float | None) -> None:
        super().__init__(f"{step} took more than {seconds} s")
        self.step = step


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each step; None waits for ever. `read` is for each piece that is awaited, `write` for each sent."""

    connect: float | None = None
    read: float | None = None
    write: float | None = None
    pool: float | None = None


NO_TIMEOUTS = Timeouts()


async def within(step: str, seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; `StepTimeout` if it takes longer."""
    if seconds is None:
        return await work
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise StepTimeout(step, seconds) from None
        raise


class Exchange:
    """A response whose fields have come. Its body is received here; `aclose` gives up what has not ended."""

    def __init__(self, stream: ClientStream, lease: Lease, timeouts: Timeouts) -> None:
        self.stream = stream
        self.reused = lease.reused
        """True if the connection had requests before."""
        self.early = lease.connection.handshake is None
        """True if the request went out before the handshake was complete."""
        self._lease = lease
        self._timeouts = timeouts
        self._sender: asyncio.Task[None] | None = None

    @property
    def connection(self) -> Any:
        """The connection that carries it."""
        return self._lease.connection

    @property
    def status(self) -> int:
        """The status code."""
        return self.stream.status

    @property
    def fields(self) -> Fields:
        """The response's fields without `:status`."""
        return (self.stream.response or [])[1:]

    def field(self, name: bytes) -> bytes | None:
        """The first value of a field; `name` in lower case."""
        return next((value for known, value in self.fields if known == name), None)

    @property
    def trailers(self) -> Fields:
        """The fields after the body; known once the body was received to its end."""
        return self.stream.trailers or []

    async def begin_sending(self, body: AsyncIterable[bytes]) -> None:
        """Send a body while the response may come already."""
        self._sender = asyncio.get_running_loop().create_task(self._send(body))

    async def _send(self, body: AsyncIterable[bytes]) -> None:
        stream, limit = self.stream, self._timeouts.write
        try:
            async for part in body:
                view = memoryview(part)
                for at in range(0, len(view), PIECE):
                    await within("write", limit, stream.send(view[at : at + PIECE]))
            await within("write", limit, stream.send(b"", end=True))
        except (RequestError, ConnectionClosed):
            pass  # the response, or its failure, says what the server thinks
        except Exception as error:
            stream.abort()
            stream.fail(error)

    async def wait_response(self) -> None:
        """Wait for the fields; while the body is being sent, no time limit but that of writing."""
        before = self._heard()
        try:
            await self._wait_response()
        except StepTimeout:
            if self._heard() == before:
                self._lease.suspect()
            raise

    def _heard(self) -> int:
        """Bytes that came from the server, on the whole connection."""
        return self._lease.connection.core.path.bytes_received

    async def _wait_response(self) -> None:
        response = self.stream.wait_response()
        if self._sender is None or self._timeouts.read is None:
            await within("read", self._timeouts.read, response)
            return
        waiting = asyncio.get_running_loop().create_task(response)
        try:
            await asyncio.wait({waiting, self._sender}, return_when=asyncio.FIRST_COMPLETED)
            await within("read", self._timeouts.read, _value(waiting))
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])

    async def receive(self, limit: int = -1) -> bytes:
        """Bytes of the body, all that are there or at most `limit`; b"" at the end."""
        data = await within("read", self._timeouts.read, self.stream.receive(limit))
        if not data and self._sender is None:
            self._lease.release()
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.receive():
            yield data

    async def aclose(self) -> None:
        """Give up what has not ended; the connection stays for others."""
        if self._sender is not None:
            self._sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._sender])
        await self.stream.aclose()
        self._lease.release()


async def _value(task: asyncio.Task[T]) -> T:
    return await task


async def send(
    pool: Pool,
    target: Target,
    fields: Fields,
    body: Body = b"",
    *,
    timeouts: Timeouts = NO_TIMEOUTS,
    lease: Lease | None = None,
) -> Exchange:
    """Send a request, pseudo-fields first, and wait for the response's fields. A `lease` is used for the first try.

    A request that the server has certainly not processed (RFC 9114 sections 4.1.1 and 5.2) is sent again, `RETRIES`
    times at most, on another connection where need be; so is one of a safe method on a connection that was idle and
    turns out to be dead (RFC 9110 section 9.2.2), or that never came to be; and one that was too early for the server
    (RFC 8470 section 5.2). A body that can be had only once is not.

    Before the handshake is complete only requests of safe methods and without content are sent.
    """
    retries = RETRIES
    while True:
        if lease is None:
            lease = await within("connect", timeouts.connect, pool.acquire(target))
        stream: ClientStream | None = None
        try:
            if lease.connection.handshake is None and (body or not _is_safe(fields)):
                await within("connect", timeouts.connect, lease.connection.wait_connected())
            stream = await _begin(lease, fields, body, timeouts)
            exchange = await _respond(Exchange(stream, lease, timeouts), body)
            if exchange.status != TOO_EARLY or not exchange.early:
                return exchange
            await stream.aclose()  # the connection is kept: its handshake is complete by now
        except (RequestError, ConnectionClosed, UsageError) as error:
            lease.release()
            if not retries or not _unprocessed(error, stream, lease, fields) or isinstance(body, AsyncIterable):
                raise
            retries -= 1
            lease = None
        except BaseException:
            lease.release()
            raise


async def _begin(lease: Lease, fields: Fields, body: Body, timeouts: Timeouts) -> ClientStream:
    small = isinstance(body, bytes) and len(body) <= SMALL_BODY
    data = body if small and isinstance(body, bytes) else b""
    return await within("pool", timeouts.pool, lease.connection.begin(fields, data, end=small))


async def _respond(exchange: Exchange, body: Body) -> Exchange:
    try:
        if not isinstance(body, bytes):
            await exchange.begin_sending(body() if callable(body) else body)
        elif len(body) > SMALL_BODY:
            await exchange.begin_sending(_whole(body))
        await exchange.wait_response()
    except BaseException:
        await exchange.aclose()
        raise
    return exchange


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _unprocessed(error: Exception, stream: ClientStream | None, lease: Lease, fields: Fields) -> bool:
    """Whether the request may be sent again: the server has not processed it, or it does not matter."""
    if stream is None:  # nothing was sent
        return not lease.connection.usable
    if isinstance(error, RequestError):
        return error.retryable
    if not isinstance(error, ConnectionClosed) or not _is_safe(fields):
        return False
    refused = lease.connection.handshake is None and error.closing.by is not ClosedBy.HANDSHAKE_TIMEOUT
    return lease.reused or refused


def _is_safe(fields: Fields) -> bool:
    return next((value for name, value in fields if name == b":method"), b"") in _SAFE
