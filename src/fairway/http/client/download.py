"""One URL fetched: request, redirects, decoding, saving, and what there is to say about it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fairway.http.client.decoding import decoder
from fairway.http.client.exchange import NO_TIMEOUTS, Body, Exchange, Timeouts, send, within
from fairway.http.client.pool import Pool, Target
from fairway.http.client.saving import PartFile, Saving
from fairway.http.client.url import Url, UrlError
from fairway.http3 import Fields

_SECRET = (b"authorization", b"cookie", b"proxy-authorization")
_OF_BODIES = (b"content-type", b"content-length", b"content-encoding")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RedirectError(Exception):
    """A redirect that is not followed; says why."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for: method, fields without the pseudo-fields, body."""

    url: Url
    method: str = "GET"
    fields: Fields = field(default_factory=list)
    body: Body = b""
    replayable: bool = True
    """False if the body can be sent only once."""

    def head(self, more: Fields) -> Fields:
        """The field section."""
        return [
            (b":method", self.method.encode("ascii")),
            (b":scheme", b"https"),
            (b":authority", self.url.authority.encode("ascii")),
            (b":path", self.url.path.encode("ascii")),
            *self.fields,
            *more,
        ]


@dataclass(slots=True)
class Times:
    """Seconds from the beginning; None for what has not happened."""

    begun: float = field(default_factory=time.perf_counter)
    connecting: float | None = None
    """How long connecting took, the name's resolution included; None on a connection that was there."""
    connected_to: tuple[str, int] | None = None
    """The host and port that it was to: before a redirect another one than at the end."""
    first_byte: float | None = None
    total: float | None = None

    def since(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.begun


@dataclass(slots=True)
class Result:
    """What came of it; filled as it happens, so that it says how far a failed one got."""

    ask: Ask
    """The last request: after redirects not the first."""
    times: Times = field(default_factory=Times)
    exchange: Exchange | None = None
    connected: bool = False
    """True once there is a connection to where the last request goes."""
    reused: bool = False
    redirects: int = 0
    received: int = 0
    """Bytes of the body as they came."""
    saved: int = 0
    """Bytes after decoding."""
    resumed_from: int = 0
    total: int | None = None
    """Bytes of the body that the server announced."""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """How to fetch."""

    max_redirects: int = 0
    decode: bool = False
    digest: bool = False
    refuse_errors: bool = False
    """A status of 400 or more has no body that is worth saving."""
    connect_timeout_s: float | None = None
    timeouts: Timeouts = NO_TIMEOUTS


class StatusError(Exception):
    """The status is 400 or more, and that was to be an error."""


async def fetch(
    pool: Pool,
    result: Result,
    saving: Saving,
    policy: Policy,
    *,
    on_head: Callable[[Result], None] = lambda _: None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """Do what `result.ask` says, follow redirects, save the body; `on_head` is called for the final response.

    Raises what `send`, `saving` and decoding raise, `RedirectError` and `StatusError`. Saving is for the caller to
    give up then.
    """
    while True:
        exchange = await _begin(pool, result, saving, policy)
        try:
            location = exchange.field(b"location") if exchange.status in _REDIRECTS else None
            if location is None or not policy.max_redirects:
                await _body(result, exchange, saving, policy, on_head, on_bytes)
                return
            if result.redirects >= policy.max_redirects:
                raise RedirectError(f"{result.redirects} redirects were followed, and here is another")
            result.ask = redirected(result.ask, exchange.status, location)
            result.redirects += 1
        finally:
            await exchange.aclose()


async def _begin(pool: Pool, result: Result, saving: Saving, policy: Policy) -> Exchange:
    url, times = result.ask.url, result.times
    target = Target(url.host, url.port, url.host)
    fresh = not pool.has(target)
    result.connected = False
    before = times.since()
    lease = await within("connect", policy.connect_timeout_s, pool.acquire(target))
    result.connected = lease.connection.handshake is not None
    if fresh:
        times.connecting, times.connected_to = times.since() - before, (url.host, url.port)
    result.reused = lease.reused
    more = saving.request_fields() if isinstance(saving, PartFile) else []
    result.exchange = exchange = await send(
        pool, target, result.ask.head(more), result.ask.body, timeouts=policy.timeouts, lease=lease
    )
    result.connected = True
    times.first_byte = times.since()
    return exchange


async def _body(
    result: Result,
    exchange: Exchange,
    saving: Saving,
    policy: Policy,
    on_head: Callable[[Result], None],
    on_bytes: Callable[[int], None],
) -> None:
    length = exchange.field(b"content-length")
    result.total = int(length) if length is not None and result.ask.method != "HEAD" else None
    complete = isinstance(saving, PartFile) and exchange.status == 416 and saving.offset > 0
    if policy.refuse_errors and exchange.status >= 400 and not complete:
        on_head(result)
        raise StatusError(f"the server answered {exchange.status}")
    wanted = True
    if isinstance(saving, PartFile):
        wanted = saving.begin(exchange.status, exchange.fields)
        result.resumed_from = saving.offset
    on_head(result)
    if wanted:
        await _receive(result, exchange, saving, policy, on_bytes)
    await saving.finish()
    result.times.total = result.times.since()


async def _receive(
    result: Result, exchange: Exchange, saving: Saving, policy: Policy, on_bytes: Callable[[int], None]
) -> None:
    coding = (exchange.field(b"content-encoding") or b"").decode("latin-1") if policy.decode else ""
    undo: Any = decoder(coding) if coding else None
    digest = hashlib.sha256() if policy.digest else None
    if digest and isinstance(saving, PartFile):
        for piece in saving.before():
            digest.update(piece)
    while data := await exchange.receive():
        result.received += len(data)
        on_bytes(len(data))
        for piece in undo.decode(data) if undo else (data,):
            await saving.write(piece)
            result.saved += len(piece)
            if digest:
                digest.update(piece)
    if undo:
        undo.finish()
    if digest:
        result.digest = digest.hexdigest()


def redirected(ask: Ask, status: int, location: bytes) -> Ask:
    """The request that a redirect asks for (RFC 9110 section 15.4). `RedirectError` if there is none to make.

    What is secret is not told to another origin.
    """
    try:
        url = ask.url.join(location.decode("utf-8"))
    except (UrlError, UnicodeDecodeError) as error:
        raise RedirectError(f"the redirect is not followed: {error}") from None
    fields, method, body = ask.fields, ask.method, ask.body
    if (url.host, url.port) != (ask.url.host, ask.url.port):
        fields = [(name, value) for name, value in fields if name not in _SECRET]
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        fields = [(name, value) for name, value in fields if name not in _OF_BODIES]
        return replace(ask, url=url, method="GET", fields=fields, body=b"", replayable=True)
    if not ask.replayable:
        raise RedirectError(f"the redirect to {url} wants the body again, which can be had only once")
    return replace(ask, url=url, fields=fields, body=body)
