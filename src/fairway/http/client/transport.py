"""`Http3Transport`: what makes an httpx client speak HTTP/3, by Alt-Svc, by choice, or only."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import httpx

from fairway.aio import ConnectionClosed
from fairway.aio.http3 import RequestError
from fairway.aio.keylog import keylog_to
from fairway.http.client import trust
from fairway.http.client.alt_svc import Alternative, AltSvcCache, Origin
from fairway.http.client.dialing import dialer
from fairway.http.client.exchange import Body, Exchange, StepTimeout, Timeouts, send
from fairway.http.client.limits import HEAD_START_S
from fairway.http.client.pool import Lease, Pool, Target
from fairway.http3 import Fields
from fairway.quic import ClosedBy, MemorySessionStore, SessionStore, UsageError

Mode = Literal["only", "auto", "prefer"]

_OF_CONNECTIONS = frozenset(
    {b"host", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_HANDSHAKE_LIMIT_S = 30.0
"""For a handshake that goes on while its request went over TCP."""

_TIMEOUTS: dict[str, type[httpx.TimeoutException]] = {
    "pool": httpx.PoolTimeout,
    "connect": httpx.ConnectTimeout,
    "write": httpx.WriteTimeout,
    "read": httpx.ReadTimeout,
}


class Http3Transport(httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient`. `verify` and `cert` are as httpx has them.

    `http3` is "auto" (TCP first; HTTP/3 once the origin has said in Alt-Svc where it has that), "prefer" (HTTP/3 is
    tried first at every https origin) or "only". But for "only", a handshake that takes more than `head_start_s` goes
    on for later requests while this one goes over TCP; one that fails is not tried again for a while.

    A later connection to a server resumes the session that `session_store` has of it, one in memory if none is given;
    where the server takes early data, requests of safe methods without content do not wait for the handshake.
    """

    def __init__(
        self,
        *,
        verify: trust.Verify = True,
        cert: trust.Cert = None,
        http3: Mode = "auto",
        alt_svc: AltSvcCache | None = None,
        tcp: httpx.AsyncBaseTransport | None = None,
        head_start_s: float = HEAD_START_S,
        session_store: SessionStore | None = None,
        **pool: Any,
    ) -> None:
        if http3 not in ("only", "auto", "prefer"):
            raise ValueError(f"http3={http3!r}: it is 'only', 'auto' or 'prefer'")
        self._mode = http3
        self._verify, ca = trust.authorities(verify)
        dial = dialer(
            verify=self._verify,
            ca=ca,
            identity=trust.identity(cert),
            keylog=keylog_to(None),
            timeout=_HANDSHAKE_LIMIT_S,
            session_store=MemorySessionStore() if session_store is None else session_store,
        )
        self._pool = Pool(dial, **pool)
        self._head_start_s = head_start_s
        self._alt_svc = alt_svc if alt_svc is not None else AltSvcCache()
        self._tcp: httpx.AsyncBaseTransport | None = None
        if http3 != "only":
            self._tcp = tcp or httpx.AsyncHTTPTransport(verify=_for_tcp(verify, cert), http2=_has_h2())
        self._late: set[asyncio.Task[Lease]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; for httpx."""
        origin = (request.url.host.lower(), request.url.port or (443 if request.url.scheme == "https" else 80))
        if self._tcp is None:
            if request.url.scheme != "https":
                raise httpx.UnsupportedProtocol(f"HTTP/3 is only for https://, not {request.url.scheme}://")
            return await self._over_quic(request, origin, Alternative(*origin), None)
        alternative = self._choose(request, origin)
        if alternative is not None:
            lease = await self._soon(origin, alternative)
            if lease is not None:
                response = await self._over_quic(request, origin, alternative, lease)
                if response.status_code != 421 or not _replayable(request):
                    return response
                await response.aclose()
                self._alt_svc.forget(origin)
        response = await self._tcp.handle_async_request(request)
        if request.url.scheme == "https":
            self._learn(origin, response)
        return response

    def _choose(self, request: httpx.Request, origin: Origin) -> Alternative | None:
        """Where to try HTTP/3; None where that is not known, or known not to work."""
        if request.url.scheme != "https":
            return None
        now = time.monotonic()
        found = self._alt_svc.find(origin, now)
        if found is None and self._mode == "prefer":
            own = Alternative(*origin)
            found = None if self._alt_svc.is_broken(origin, own, now) else own
        return found

    def _learn(self, origin: Origin, response: httpx.Response) -> None:
        value = response.headers.get("alt-svc")
        if value is not None:
            self._alt_svc.learn(origin, value, time.monotonic(), other_hosts=self._verify)

    async def _soon(self, origin: Origin, alternative: Alternative) -> Lease | None:
        """A lease, if there is one within the head start; the handshake goes on without us."""
        target = Target(alternative.host, alternative.port, origin[0])
        if self._pool.has(target):
            return await self._pool.acquire(target)
        task = asyncio.get_running_loop().create_task(self._pool.acquire(target))
        self._late.add(task)
        handed_over = False

        def done(task: asyncio.Task[Lease]) -> None:
            self._late.discard(task)
            if task.cancelled():
                return
            if task.exception() is not None:
                self._alt_svc.failed(origin, alternative, time.monotonic())
                return
            self._alt_svc.worked(origin, alternative)
            if not handed_over:
                task.result().release()

        try:
            finished, _ = await asyncio.wait({task}, timeout=self._head_start_s)
            handed_over = bool(finished) and task.exception() is None
        finally:
            task.add_done_callback(done)
        return task.result() if handed_over else None

    async def _over_quic(
        self, request: httpx.Request, origin: Origin, alternative: Alternative, lease: Lease | None
    ) -> httpx.Response:
        target = Target(alternative.host, alternative.port, origin[0])
        limits = request.extensions.get("timeout", {})
        timeouts = Timeouts(limits.get("connect"), limits.get("read"), limits.get("write"), limits.get("pool"))
        with _told(request):
            try:
                fields = _fields(request)
                if target.host != origin[0] or target.port != origin[1]:
                    fields.append((b"alt-used", f"{_bracketed(target.host)}:{target.port}".encode()))
                exchange = await send(self._pool, target, fields, _body(request), timeouts=timeouts, lease=lease)
            except BaseException:
                if lease is not None:
                    lease.release()
                raise
        body = _ResponseBody(exchange, request)
        response = httpx.Response(
            exchange.status,
            headers=exchange.fields,
            stream=body,
            extensions={
                "http_version": b"HTTP/3",
                "stream_id": exchange.stream.stream_id,
                "network_stream": _NetworkStream(exchange.connection),
                "informational": [(int(known[0][1]), known[1:]) for known in exchange.stream.informational],
                "trailing_headers": body.trailers,
            },
        )
        self._learn(origin, response)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for task in list(self._late):
            task.cancel()
        if self._late:
            await asyncio.wait(self._late)
        await self._pool.aclose()
        if self._tcp is not None:
            await self._tcp.aclose()


class _ResponseBody(httpx.AsyncByteStream):
    """A response's body, received as it is read: who reads slowly slows the server down."""

    def __init__(self, exchange: Exchange, request: httpx.Request) -> None:
        self._exchange = exchange
        self._request = request
        self.trailers: Fields = []
        """Filled when the body has been read."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _told(self._request):
            async for data in self._exchange:
                yield data
        self.trailers.extend(self._exchange.trailers)

    async def aclose(self) -> None:
        """Give up what was not read."""
        await self._exchange.aclose()


class _NetworkStream:
    """What can be asked about the connection: `response.extensions["network_stream"].get_extra_info(...)`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def get_extra_info(self, info: str) -> Any:
        """ "server_addr", "alpn", "cipher_suite" (its number), "peer_certificates" (DER, the leaf first)."""
        connection = self._connection
        if info == "server_addr":
            return connection.peer_address
        if info == "cipher_suite":
            return connection.handshake.cipher_suite
        return getattr(connection, info) if info in ("alpn", "peer_certificates") else None


@contextlib.contextmanager
def _told(request: httpx.Request) -> Iterator[None]:
    """What goes wrong, as httpx's exceptions."""
    try:
        yield
    except StepTimeout as error:
        raise _TIMEOUTS[error.step](str(error), request=request) from error
    except TimeoutError as error:
        raise httpx.ConnectTimeout("no answer on UDP", request=request) from error
    except RequestError as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error
    except UsageError as error:
        raise httpx.LocalProtocolError(str(error), request=request) from error
    except ConnectionClosed as error:
        raise _of_closing(error)(str(error), request=request) from error
    except OSError as error:
        raise httpx.ConnectError(str(error), request=request) from error


def _of_closing(error: ConnectionClosed) -> type[httpx.TransportError]:
    closing = error.closing
    if closing.by is ClosedBy.HANDSHAKE_TIMEOUT:
        return httpx.ConnectTimeout
    if closing.by in (ClosedBy.TRANSPORT, ClosedBy.VERSION) or 0x0100 <= closing.code <= 0x01FF:
        return httpx.ConnectError  # a handshake that failed; once connected, the network's errors are not believed
    if closing.by in (ClosedBy.IDLE, ClosedBy.RESET) or closing.clean:
        return httpx.ReadError
    return httpx.RemoteProtocolError


def _fields(request: httpx.Request) -> Fields:
    url = request.url
    authority = request.headers.get("host", "").encode("ascii") or url.netloc
    fields: Fields = [
        (b":method", request.method.encode("ascii")),
        (b":scheme", b"https"),
        (b":authority", authority),
        (b":path", url.raw_path or b"/"),
    ]
    for name, value in request.headers.raw:
        lower = name.lower()
        if lower in _OF_CONNECTIONS or (lower == b"te" and value.lower() != b"trailers"):
            continue
        fields.append((lower, value))
    return fields


def _replayable(request: httpx.Request) -> bool:
    return isinstance(request.stream, httpx.ByteStream)


def _body(request: httpx.Request) -> Body:
    if isinstance(request.stream, httpx.ByteStream):
        return b"".join(request.stream)
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise UsageError("a body for an async client is bytes or an async iterator")
    return request.stream


def _for_tcp(verify: trust.Verify, cert: trust.Cert) -> ssl.SSLContext:
    if isinstance(verify, ssl.SSLContext):
        context = verify
    elif isinstance(verify, str):
        context = ssl.create_default_context(cafile=verify)
    else:
        context = httpx.create_ssl_context(verify=verify)
    if cert is not None:
        context.load_cert_chain(*((cert,) if isinstance(cert, str) else cert))
    return context


def _has_h2() -> bool:
    return importlib.util.find_spec("h2") is not None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
