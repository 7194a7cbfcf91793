"""One request over TCP: what Hypercorn's `receive` and `send` lack of ASGI 2.4, and of the limits on clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fairway.http.server.asgi import Application, ClientDisconnectedError, Limits, Message, Receive, Scope, Send
from fairway.http.server.asgi.fields import Fields, date
from fairway.http.server.asgi.limits import WRITE
from fairway.http.server.asgi.patience import Patience

AHEAD = 4
"""Pieces of a body that are read ahead of an application, beside Hypercorn's own queue."""

LINGER_S = 2.0
"""How long the rest of a body is read that an answer did not wait for, before the answer ends.

Hypercorn ends an HTTP/1.1 connection with a reset if more of the body comes after it, so that the client may never see
the answer, and an HTTP/2 connection by an error of its own.
"""

_log = logging.getLogger("fairway.server.tcp")


def announced_length(scope: Scope) -> int:
    """What a request says about the length of its body; 0 if it says nothing."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(value) if value.isdigit() else 0


class TcpExchange:
    """Stands between Hypercorn and the application.

    It reads ahead, to notice that the client has gone: then `send` is to raise, as ASGI 2.4 says. Hypercorn, of 2.1,
    takes what is sent to nobody without a word. Applications that know of 2.1 only watch `receive` while they send, and
    so lose what they meant to read. `finish` completes a response's headers.
    """

    def __init__(self, receive: Receive, send: Send, finish: Callable[[Any], Fields], limits: Limits) -> None:
        self._receive = receive
        self._send = send
        self._finish = finish
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[Message] = asyncio.Queue(AHEAD)
        self._patience = Patience(limits)
        self._whole = False
        """True once the application has the whole body."""
        self._all_in = False
        """True once nothing of the request is to come any more."""
        self._begun = False
        self._gone = False
        self._told = False
        """True once the application knows that the client has gone."""
        self._sending: asyncio.Future[None] | None = None
        self._pump = self._loop.create_task(self._read())

    async def run(self, application: Application, scope: Scope) -> None:
        """Run the application."""
        try:
            await application(scope, self.receive, self.send)
        except Exception as error:
            if not self._told:
                raise
            _log.debug("the client left: %r", error)

    def close(self) -> None:
        """Read no more."""
        self._pump.cancel()

    async def _read(self) -> None:
        while not self._all_in or not self._gone:
            message = await self._receive()
            self._all_in = not message.get("more_body", False)
            if message["type"] == "http.disconnect":
                self._lose()
            await self._messages.put(message)

    def _lose(self) -> None:
        self._gone = True
        if self._sending is not None:
            self._sending.cancel()

    # receive

    async def receive(self) -> Message:
        """The next message; after the last, again that the client has gone."""
        if self._gone and self._messages.empty():
            return self._disconnected()
        if self._whole:
            message = await self._messages.get()
        else:
            began = self._loop.time()
            left = self._patience.left(0.0)
            try:
                async with asyncio.timeout(None if left == float("inf") else max(left, 0.0)):
                    message = await self._messages.get()
            except TimeoutError:
                await self.refuse(408, b"Request Timeout\n")
                return self._disconnected()
            self._patience.took(len(message.get("body", b"")), self._loop.time() - began)
            limit = self._limits.max_body
            if limit is not None and self._patience.received > limit:
                await self.refuse(413, b"Content Too Large\n")
                return self._disconnected()
            self._whole = not message.get("more_body", False)
        if message["type"] == "http.disconnect":
            return self._disconnected()
        return message

    async def refuse(self, status: int, body: bytes, *fields: tuple[bytes, bytes]) -> None:
        """The server's own answer, if none has begun; for the application the client has gone."""
        self._lose()
        if self._begun:
            return
        self._begun = True
        plain = (b"content-type", b"text/plain; charset=utf-8")
        headers = [plain, (b"content-length", b"%d" % len(body)), (b"date", date()), *fields]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._end({"type": "http.response.body", "body": body})

    def _disconnected(self) -> Message:
        self._told = True
        return {"type": "http.disconnect"}

    # send

    async def send(self, message: Message) -> None:
        """Send a message; `ClientDisconnectedError` once the client has gone, or takes too long."""
        if self._gone:
            raise self._left_error()
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._finish(message.get("headers", ()))}
            self._begun = True
        limit = self._limits.write_timeout_s
        if limit is not None:
            limit *= 1 + len(message.get("body", b"")) // WRITE
        try:
            async with asyncio.timeout(limit):
                if message.get("more_body", False):
                    await self._unless_gone(self._send(message))  # Hypercorn may hold it though the client has gone
                elif message["type"] == "http.response.body":
                    await self._end(message)
                else:
                    await self._send(message)
        except TimeoutError:
            self._lose()
            raise self._left_error() from None

    async def _end(self, message: Message) -> None:
        """Send the last of a body."""
        if not self._all_in:
            await self._send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while not self._all_in:
                        await self._messages.get()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _unless_gone(self, sending: Awaitable[None]) -> None:
        """Wait for a message to be sent, no longer than there is a client."""
        self._sending = asyncio.ensure_future(sending)
        try:
            await self._sending
        except asyncio.CancelledError:
            if not self._gone:
                raise
            raise self._left_error() from None
        finally:
            self._sending = None

    def _left_error(self) -> ClientDisconnectedError:
        self._told = True
        return ClientDisconnectedError("the client has gone")
