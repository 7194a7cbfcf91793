"""One process that serves an application: HTTP/3 over QUIC, HTTP/1.1 and HTTP/2 over TCP, one lifespan around both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass, field

from fairway.aio import http3
from fairway.aio.server import Server
from fairway.aio.workers.group import Place
from fairway.http.server.access_log import AccessLog
from fairway.http.server.asgi import Application, AsgiHandler, Lifespan, Limits
from fairway.http.server.asgi.handler import SETTINGS
from fairway.http.server.asgi.limits import SWEEP_S
from fairway.http.server.asgi.scope import plain_host
from fairway.http.server.attendance import Attendance
from fairway.http.server.certificates import Certificates, ssl_context
from fairway.http.server.tcp import ALPN, TcpServer
from fairway.quic import QuicConfiguration
from fairway.quic.endpoint.admission import AdmissionLimits
from fairway.quic.endpoint.ids import ServerId

_log = logging.getLogger("fairway.server")


@dataclass(frozen=True, slots=True)
class Settings:
    """How an application is served. Times are seconds."""

    certificates: Certificates
    limits: Limits = field(default_factory=Limits)
    configuration: QuicConfiguration = field(default_factory=QuicConfiguration)
    admission: AdmissionLimits | None = None
    """How many connections each process takes, by QUIC and over TCP each; None for the usual limits."""
    server_id: ServerId | None = None
    """Who the host is to a balancer."""
    root_path: str = ""
    access_log: str | None = None
    """`text`, `json` or None."""
    early_data: bool = False
    """Whether returning clients may ask in 0-RTT; what is not safe is answered with 425 (RFC 8470)."""
    grace_s: float = 10.0
    """How long requests may take to end once the server stops."""


class Service:
    """An application that is served on sockets which it is given, and which it closes."""

    def __init__(
        self,
        application: Application,
        settings: Settings,
        *,
        udp: socket.socket,
        tcp: list[socket.socket] | None = None,
        redirect: list[socket.socket] | None = None,
        place: Place | None = None,
    ) -> None:
        if settings.access_log is not None:
            application = AccessLog(application, as_json=settings.access_log == "json")
        self._application = application
        self._settings = settings
        self._udp = udp
        self._place = place
        self._tcp_sockets = tcp or []
        self._redirect_sockets = redirect or []
        self._lifespan = Lifespan(application)
        self._handler: AsgiHandler | None = None
        self._tcp: TcpServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.quic: Server[http3.ServerConnection] | None = None
        """The HTTP/3 side, once started."""

    @property
    def running(self) -> int:
        """Requests and WebSockets over HTTP/3 that the application works on."""
        return 0 if self._handler is None else self._handler.running

    async def start(self) -> None:
        """Start the application, then accept connections. `LifespanError` if the application cannot start."""
        await self._lifespan.startup()
        await self.listen()

    async def start_application(self) -> None:
        """The first half of `start`."""
        await self._lifespan.startup()

    async def listen(self) -> None:
        """The second half of `start`."""
        settings, certificates = self._settings, self._settings.certificates
        host, port = self._udp.getsockname()[:2]
        self._handler = AsgiHandler(
            self._application,
            root_path=settings.root_path,
            state=self._lifespan.state,
            server=(plain_host(host), port),
            identities=certificates.identities,
            limits=settings.limits,
        )
        if self._tcp_sockets:
            self._tcp = TcpServer(
                self._application,
                ssl_context(certificates, ALPN),
                secure=self._tcp_sockets,
                insecure=self._redirect_sockets,
                port=port,
                root_path=settings.root_path,
                state=self._lifespan.state.copy,
                limits=settings.limits,
                admission=settings.admission,
                streams=settings.configuration.max_streams_bidi,
            )
        self.quic = await http3.serve(
            self._handler,
            None,
            0,
            settings=SETTINGS,
            outlive=True,
            request_timeout_s=settings.limits.request_timeout_s,
            identities=certificates.identities,
            client_ca=certificates.client_ca,
            require_client_certificate=certificates.require_client_certificate,
            configuration=settings.configuration,
            keylog=certificates.keylog,
            early_data=settings.early_data,
            sock=self._udp,
            limits=settings.admission,
            server_id=settings.server_id,
            place=self._place,
        )
        if self._tcp is not None:
            self._tcp.start()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(self._handler, self.quic))

    async def _sweep(self, handler: AsgiHandler, quic: Server[http3.ServerConnection]) -> None:
        """Look at deadlines now and then: cheaper than a timer for each request."""
        loop = asyncio.get_running_loop()
        limits = self._settings.limits
        attended: dict[http3.ServerConnection, Attendance] = {}
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            handler.expire(now)
            known, attended = attended, {}
            for connection in quic.connections:
                attendance = known.get(connection) or Attendance(connection, limits, now)
                attendance.look(now)
                attended[connection] = attendance

    async def close(self, grace_s: float | None = None) -> None:
        """Accept nobody new, let requests end (GOAWAY says so), then stop the application."""
        grace_s = self._settings.grace_s if grace_s is None else grace_s
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        closing = [side.close(grace_s) for side in (self.quic, self._tcp) if side is not None]
        await asyncio.gather(*closing)
        if self._handler is not None and self._handler.running:  # of clients that have gone
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(deadline - loop.time(), 0)):
                    await self._handler.wait_idle()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._lifespan.shutdown()
