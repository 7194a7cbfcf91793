"""Two ends of HTTP/3 in memory, over the simulated clock and path of the QUIC tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent / "quic"))

from quic_pair import Pair, Side, SimulatedPath, identity

from fairway.http3 import DEFAULT_SETTINGS, Http3Connection, RequestReceived, ResponseReceived, Settings
from fairway.quic import QuicConfiguration
from fairway.tls import ClientConfig, ServerConfig

EventType = TypeVar("EventType")

GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:]]
OK = [(b":status", b"200")]


class HttpPair(Pair):
    """A client and a server; `client_http`, `server_http` are their cores, `client.events`, `server.events` what
    they told. With `raw_client` the client is bare QUIC, to be used as an attacker."""

    def __init__(
        self,
        *,
        seed: int = 0,
        path: SimulatedPath | None = None,
        configuration: QuicConfiguration | None = None,
        client_settings: Settings = DEFAULT_SETTINGS,
        server_settings: Settings = DEFAULT_SETTINGS,
        raw_client: bool = False,
        raw_server: bool = False,
        server_tls: ServerConfig | None = None,
        **options: Any,
    ) -> None:
        self._settings = {"client": client_settings, "server": server_settings}
        self._raw = {"client": raw_client, "server": raw_server}
        self._http: dict[str, Http3Connection] = {}
        self.told: dict[tuple[str, type[Any]], float] = {}
        """When a side first told an event of a kind."""
        super().__init__(
            configuration or QuicConfiguration(handshake_timeout_s=120.0),
            seed=seed,
            there=path,
            client_tls=ClientConfig("localhost", ("h3",), verify=False),
            server_tls=server_tls or ServerConfig((identity(),), ("h3",)),
            **options,
        )
        self.run_for(0.1)

    def http(self, side: Side) -> Http3Connection:
        """The HTTP/3 core of a side."""
        assert side.core is not None
        if side.name not in self._http:
            self._http[side.name] = Http3Connection(
                side.core, is_client=side is self.client, settings=self._settings[side.name]
            )
        return self._http[side.name]

    @property
    def client_http(self) -> Http3Connection:
        """The client's core."""
        return self.http(self.client)

    @property
    def server_http(self) -> Http3Connection:
        """The server's core."""
        return self.http(self.server)

    def _collect(self, side: Side) -> None:
        if self._raw[side.name]:
            super()._collect(side)
            return
        events: list[Any] = self.http(side).events(self.now)
        side.events += events
        for event in events:
            self.told.setdefault((side.name, type(event)), self.now)

    def first(self, side: Side, kind: type[EventType]) -> EventType:
        """The first event of a kind, when it has come."""
        self.run(lambda: bool(side.of(kind)), limit_s=60)
        event = side.of(kind)[0]
        assert isinstance(event, kind)
        return event

    def request(self, fields: list[tuple[bytes, bytes]] = GET, data: bytes = b"", *, end: bool = True) -> int:
        """A request that has arrived at the server; its stream."""
        before = len(self.server.of(RequestReceived))
        stream_id = self.client_http.request(fields, data=data, end=end)
        assert stream_id is not None
        self.run(lambda: len(self.server.of(RequestReceived)) > before, limit_s=60)
        return stream_id

    def read_all(self, side: Side, stream_id: int) -> bytes:
        """A whole body."""
        parts = bytearray()

        def done() -> bool:
            parts.extend(self.http(side).read(stream_id))
            return self.http(side).at_end(stream_id)

        self.run(done, limit_s=600)
        return bytes(parts)

    def exchange(self, fields: list[tuple[bytes, bytes]] = GET, body: bytes = b"") -> tuple[ResponseReceived, bytes]:
        """A request, answered with `body`; what the client got."""
        before = len(self.client.of(ResponseReceived))
        stream_id = self.request(fields)
        self.server_http.respond(stream_id, OK, data=body, end=True)
        self.run(lambda: len(self.client.of(ResponseReceived)) > before, limit_s=60)
        response = self.client.of(ResponseReceived)[-1]
        assert isinstance(response, ResponseReceived)
        return response, self.read_all(self.client, stream_id)
