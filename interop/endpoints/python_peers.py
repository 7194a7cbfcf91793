"""aioquic and qh3 as a client and as a server: `python -m interop.endpoints.python_peers aioquic|qh3 client|server`."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interop.endpoints.environment import PORT, Environment, environment, unsupported

VERSION_1, VERSION_2 = 0x00000001, 0x6B3343CF
CANNOT = {
    ("server", "connectionmigration"): "has no preferred address",
    ("client", "connectionmigration"): "does not move to a preferred address",
    ("client", "ecn"): "does not mark packets",
    ("server", "ecn"): "does not mark packets",
}
UPDATE_AFTER = 100_000
PIECE = 1 << 16


def _configuration(who: str, asked: Environment, *, is_client: bool, **more: Any) -> Any:
    module = importlib.import_module(f"{who}.quic.configuration")
    configuration = module.QuicConfiguration(alpn_protocols=[asked.alpn], is_client=is_client, **more)
    if asked.protocol == "h3":  # qh3 always announces HTTP datagrams, which need QUIC's: RFC 9297 section 2.1.1
        configuration.max_datagram_frame_size = 65535
    if asked.case == "transfer":
        configuration.max_data, configuration.max_stream_data = 3 << 15, 1 << 16
    configuration.supported_versions = [VERSION_2, VERSION_1] if asked.case == "v2" else [VERSION_1]
    if is_client and asked.case == "v2":
        configuration.original_version = VERSION_1
    if is_client and asked.case == "chacha20":
        configuration.cipher_suites = [importlib.import_module(f"{who}.tls").CipherSuite.CHACHA20_POLY1305_SHA256]
    return configuration


# The server


def _server_protocol(who: str, asked: Environment) -> type[Any]:
    base = importlib.import_module(f"{who}.asyncio.protocol").QuicConnectionProtocol
    events = importlib.import_module(f"{who}.quic.events")
    h3 = importlib.import_module(f"{who}.h3.connection")
    h3_events = importlib.import_module(f"{who}.h3.events")

    class Server(base):  # type: ignore[misc, valid-type]
        """Answers requests of either protocol."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._http: Any = None
            self._asked: dict[int, bytes] = {}

        def quic_event_received(self, event: Any) -> None:
            """One event."""
            if asked.protocol == "hq":
                if isinstance(event, events.StreamDataReceived):
                    self._hq(event)
                return
            if self._http is None and isinstance(event, events.ProtocolNegotiated):
                self._http = h3.H3Connection(self._quic)
            if self._http is not None:
                for happened in self._http.handle_event(event):
                    if isinstance(happened, h3_events.HeadersReceived):
                        self._h3(happened)

        def _hq(self, event: Any) -> None:
            request = self._asked.pop(event.stream_id, b"") + event.data
            if not event.end_stream:
                self._asked[event.stream_id] = request
                return
            words = request.split()
            file = asked.file(words[1].decode()) if len(words) > 1 else None
            if file is None:
                self._quic.reset_stream(event.stream_id, 1)
            else:
                self._quic.send_stream_data(event.stream_id, file.read_bytes(), True)
            self.transmit()

        def _h3(self, event: Any) -> None:
            file = asked.file(dict(event.headers)[b":path"].decode())
            status = b"404" if file is None else b"200"
            self._http.send_headers(event.stream_id, [(b":status", status)])
            self._http.send_data(event.stream_id, b"" if file is None else file.read_bytes(), True)
            self.transmit()

    return Server


async def server(who: str, asked: Environment) -> None:
    """Serve until killed."""
    configuration = _configuration(who, asked, is_client=False)
    configuration.load_cert_chain(str(asked.certs / "chain.pem"), str(asked.certs / "key.pem"))
    tickets: dict[bytes, Any] = {}
    await importlib.import_module(f"{who}.asyncio.server").serve(
        "::",
        PORT,
        configuration=configuration,
        create_protocol=_server_protocol(who, asked),
        session_ticket_fetcher=lambda label: tickets.pop(label, None),
        session_ticket_handler=lambda ticket: tickets.__setitem__(ticket.ticket, ticket),
        retry=asked.case == "retry",
    )
    await asyncio.Event().wait()


# The client


def _client_protocol(who: str, asked: Environment) -> type[Any]:
    base = importlib.import_module(f"{who}.asyncio.protocol").QuicConnectionProtocol
    events = importlib.import_module(f"{who}.quic.events")
    h3 = importlib.import_module(f"{who}.h3.connection")
    h3_events = importlib.import_module(f"{who}.h3.events")

    class Client(base):  # type: ignore[misc, valid-type]
        """Fetches files by either protocol."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._http: Any = None
            self._files: dict[int, tuple[Any, asyncio.Future[None]]] = {}
            self._received = 0
            self._turn = asyncio.Lock()

        async def get(self, path: str) -> None:
            """Fetch one."""
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            async with self._turn:
                stream_id = await self._begin(path)
            self._files[stream_id] = (asked.target(path).open("wb"), done)
            self.transmit()
            await done

        async def _begin(self, path: str) -> int:
            stream_id = int(self._quic.get_next_available_stream_id())  # which qh3 counts as taken
            while True:
                try:
                    self._ask(stream_id, path)
                    return stream_id
                except ValueError:  # qh3 beyond what the server allows; aioquic keeps it until it is allowed
                    await asyncio.sleep(0.01)

        def _ask(self, stream_id: int, path: str) -> None:
            if asked.protocol == "hq":
                self._quic.send_stream_data(stream_id, f"GET {path}\r\n".encode(), True)
                return
            if self._http is None:
                self._http = h3.H3Connection(self._quic)
            head = [(":method", "GET"), (":scheme", "https"), (":authority", asked.host), (":path", path)]
            self._http.send_headers(stream_id, [(name.encode(), value.encode()) for name, value in head], True)

        def quic_event_received(self, event: Any) -> None:
            """One event."""
            if isinstance(event, events.ConnectionTerminated):
                for _, done in self._files.values():
                    if not done.done():
                        done.set_exception(ConnectionError(f"{event.error_code:#x} {event.reason_phrase}"))
            elif asked.protocol == "hq":
                if isinstance(event, events.StreamDataReceived):
                    self._take(event.stream_id, event.data, event.end_stream)
            elif self._http is not None:
                for happened in self._http.handle_event(event):
                    if isinstance(happened, h3_events.HeadersReceived):
                        self._take(happened.stream_id, b"", happened.stream_ended)
                    elif isinstance(happened, h3_events.DataReceived):
                        self._take(happened.stream_id, happened.data, happened.stream_ended)

        def _take(self, stream_id: int, data: bytes, ended: bool) -> None:
            file, done = self._files[stream_id]
            file.write(data)
            before, self._received = self._received, self._received + len(data)
            if asked.case == "keyupdate" and before < UPDATE_AFTER <= self._received:
                self.request_key_update()
            if ended:
                file.close()
                if not done.done():
                    done.set_result(None)

    return Client


async def client(who: str, asked: Environment) -> None:
    """Fetch everything; raises what goes wrong."""
    connect: Callable[..., Any] = importlib.import_module(f"{who}.asyncio.client").connect
    tickets: list[Any] = []
    secrets = _secrets()
    for paths in asked.connections:
        configuration = _configuration(
            who, asked, is_client=True, server_name=asked.host, secrets_log_file=secrets, idle_timeout=60.0
        )
        configuration.load_verify_locations(str(asked.certs / "ca.pem"))
        if tickets:
            configuration.session_ticket = tickets.pop()
        early = asked.case == "zerortt" and configuration.session_ticket is not None
        async with connect(
            asked.host,
            PORT,
            configuration=configuration,
            create_protocol=_client_protocol(who, asked),
            session_ticket_handler=tickets.append,
            wait_connected=not early,
        ) as protocol:
            await asyncio.gather(*(protocol.get(path) for path in paths))
            if len(asked.connections) == 2:
                await protocol.ping()  # the ticket has come by then


def _secrets() -> Any:
    """The key log; the process's end closes it."""
    return Path(os.environ["SSLKEYLOGFILE"]).open("a", buffering=1)


def main(who: str, role: str) -> None:
    """Do the environment's case."""
    asked = environment()
    reason = CANNOT.get((role, asked.case))
    if reason is not None:
        unsupported(f"{who} {reason}")
    asyncio.run(client(who, asked) if role == "client" else server(who, asked))


if __name__ == "__main__":
    main(*sys.argv[1:])
