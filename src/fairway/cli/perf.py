"""`fairway perf`: how fast QUIC is between two places."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from fairway.aio import (
    ConnectionClosed,
    FileSessionStore,
    QuicConfiguration,
    QuicConnection,
    Server,
    Stream,
    UsageError,
    connect,
    serve,
)
from fairway.aio.keylog import keylog_to
from fairway.aio.metrics import QuicCollector, serve_metrics
from fairway.aio.workers.master import StartError
from fairway.cli import perf_client
from fairway.cli.cache import development_certificate, sessions_file
from fairway.cli.perf_client import ALPN, REQUEST, send
from fairway.cli.problems import warn
from fairway.cli.quic_version import for_clients, for_servers
from fairway.http.server.certificates import development_names, make_identity, pem
from fairway.quic.congestion import CONTROLLERS
from fairway.tls import ClientConfig, Identity, ServerConfig, Tickets

DEFAULT_PORT = 4433
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class Size(click.ParamType[int]):
    """A number of bytes: 1000, 10M, 1GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower().removesuffix("b")
        number = text.rstrip("kmgi")
        unit = text[len(number) :]
        try:
            return int(float(number) * _UNITS[unit])
        except (KeyError, ValueError):
            self.fail(f"{value!r} is not a size, such as 1000, 10M or 1GiB", param, ctx)


@click.group(epilog="\b\nExample:\n  fairway perf serve --self-signed &  fairway perf get --size 1GiB")
def perf() -> None:
    """Measure QUIC between two places: `serve` on one, `get` on the other."""


def _configuration(udp_payload: int, congestion: str, versions: tuple[int, ...] | None) -> QuicConfiguration:
    return QuicConfiguration(udp_payload=udp_payload, congestion=congestion, versions=versions)


_common: list[Callable[[Any], Any]] = [
    click.option("--port", default=DEFAULT_PORT, show_default=True, help="UDP port."),
    click.option(
        "--udp-payload", default=1200, show_default=True, help="Bytes of a full datagram; the path must carry it."
    ),
    click.option("--congestion", type=click.Choice(sorted(CONTROLLERS)), default="cubic", show_default=True),
    click.option(
        "--keylog", type=click.Path(path_type=Path), help="Append TLS secrets here, for Wireshark. [$SSLKEYLOGFILE]"
    ),
    click.option(
        "--qlog", type=click.Path(path_type=Path), help="Directory for a log of each connection, for qvis. [$QLOGDIR]"
    ),
]


def _with_common(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_common):
        command = option(command)
    return command


# The server


@perf.command(
    "serve",
    epilog="\b\nExamples:\n"
    "  fairway perf serve --self-signed --host 10.0.1.2\n"
    "  fairway perf serve --self-signed --workers 2",
)
@click.option("--host", default=None, help="Address to listen on. [all]")
@click.option("--self-signed", is_flag=True, help="Make a certificate on the spot.")
@click.option("--cert", type=click.Path(exists=True, path_type=Path), help="PEM file of the certificate chain.")
@click.option("--key", type=click.Path(exists=True, path_type=Path), help="PEM file of its private key.")
@click.option(
    "--client-ca", type=click.Path(exists=True, path_type=Path), help="Clients must show a certificate of it."
)
@click.option("--workers", type=click.IntRange(0, 512), default=0, help="Processes that share the port. [none]")
@click.option("--metrics", "metrics_at", metavar="[HOST:]PORT", help="Answer Prometheus here. [host: 127.0.0.1]")
@for_servers
@_with_common
def serve_command(
    host: str | None,
    self_signed: bool,
    cert: Path | None,
    key: Path | None,
    client_ca: Path | None,
    workers: int,
    metrics_at: str | None,
    quic_version: tuple[int, ...] | None,
    port: int,
    udp_payload: int,
    congestion: str,
    keylog: Path | None,
    qlog: Path | None,
) -> None:
    """Answer `fairway perf get` until interrupted.

    With --workers several processes share the port; SIGHUP replaces them by new ones, while transfers go on.
    """
    if self_signed:
        identity = _make_certificate(host, port)
    elif cert is not None and key is not None:
        identity = Identity.from_files(cert, key)
    else:
        raise click.UsageError("give --self-signed, or --cert and --key")
    if workers and metrics_at is not None:
        raise click.UsageError("--metrics is of one process: leave --workers out")
    listener = serve(
        _answer_all,
        host,
        port,
        alpn=ALPN,
        identities=(),
        tls=ServerConfig(
            (identity,),
            (ALPN,),
            client_ca=client_ca,
            require_client_certificate=client_ca is not None,
            keylog=keylog_to(keylog),
            tickets=Tickets(early_data=True),
        ),
        configuration=_configuration(udp_payload, congestion, quic_version),
        qlog=qlog,
        grace_s=1.0,
    )

    async def run() -> None:
        if workers:
            async with listener.with_workers(workers) as processes:
                await _until_stopped(processes.port, processes.reload)
            return
        async with listener as server:
            with _metrics(server, metrics_at):
                await _until_stopped(server.port)

    try:
        asyncio.run(run())
    except StartError as error:
        raise click.ClickException(error.message) from error
    except UsageError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot listen on port {port}: {error.strerror}") from error


async def _until_stopped(port: int, reload: Callable[[], None] | None = None) -> None:
    """Wait for a signal to stop; one to reload does that, where it can."""
    click.echo(f"listening on UDP port {port}; stop with Ctrl+C", err=True)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, reload)
    await stopped.wait()


@contextlib.contextmanager
def _metrics(server: Server[QuicConnection], where: str | None) -> Iterator[None]:
    """Answer Prometheus at `where`, [HOST:]PORT, if anywhere."""
    if where is None:
        yield
        return
    host, _, port = where.rpartition(":")
    if not port.isdecimal():
        raise UsageError(f"--metrics {where}: give PORT or HOST:PORT, such as 9433")
    collector = QuicCollector()
    collector.add("perf", server)
    with serve_metrics(collector, host.strip("[]") or "127.0.0.1", int(port)) as bound:
        click.echo(f"metrics at http://{host or '127.0.0.1'}:{bound}/metrics", err=True)
        yield


def _make_certificate(host: str | None, port: int) -> Identity:
    identity = make_identity(host)
    path = development_certificate("perf", port)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pem(identity))
    click.echo(f"made a certificate for {', '.join(development_names(host))}: {path}", err=True)
    return identity


async def _answer_all(connection: QuicConnection) -> None:
    async with asyncio.TaskGroup() as tasks:
        async for stream in connection.incoming_streams():
            tasks.create_task(_answer(stream))


async def _answer(stream: Stream) -> None:
    request = b""
    while len(request) < REQUEST.size:
        part = await stream.receive(REQUEST.size - len(request))
        if not part:
            stream.reset(1)
            return
        request += part
    kind, length = REQUEST.unpack(request)
    if kind == b"D":
        await send(stream, length)
        return
    count = 0
    while data := await stream.receive():
        count += len(data)
    await stream.send(count.to_bytes(8, "big"), end=True)


# The client


@perf.command("get", epilog="\b\nExample:\n  fairway perf get 10.0.1.2 --size 200MB --udp-payload 1452 --json")
@click.argument("host", default="localhost")
@click.option("--size", type=Size(), default="1GiB", show_default=True, help="Bytes to transfer.")
@click.option("--upload", is_flag=True, help="Send instead of receiving.")
@click.option("--streams", default=1, show_default=True, help="Streams to spread the bytes over.")
@click.option("--handshakes", default=0, help="Measure so many handshakes instead.")
@click.option(
    "--resume", is_flag=True, help="Resume the session of an earlier run, asking in 0-RTT; say what was early."
)
@click.option("--migrate", is_flag=True, help="Half-way, move to another local port, and say how the paths are.")
@click.option("--migrate-to", metavar="ADDRESS", help="The same, to this local address.")
@click.option("--ca", type=click.Path(exists=True, path_type=Path), help="PEM file of whom to trust. [the system's]")
@click.option("--insecure", is_flag=True, help="Do not verify the server.")
@click.option("--cert", type=click.Path(exists=True, path_type=Path), help="PEM file of the client's certificate.")
@click.option("--key", type=click.Path(exists=True, path_type=Path), help="PEM file of its private key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@for_clients
@_with_common
def get_command(
    host: str,
    size: int,
    upload: bool,
    streams: int,
    handshakes: int,
    resume: bool,
    migrate: bool,
    migrate_to: str | None,
    ca: Path | None,
    insecure: bool,
    cert: Path | None,
    key: Path | None,
    as_json: bool,
    quic_version: tuple[int, ...] | None,
    port: int,
    udp_payload: int,
    congestion: str,
    keylog: Path | None,
    qlog: Path | None,
) -> None:
    """Transfer bytes from (or to) a `fairway perf serve` at HOST and say how fast it was."""
    if ca is None and not insecure and development_certificate("perf", port).exists():
        ca = development_certificate("perf", port)
    identity = Identity.from_files(cert, key) if cert is not None and key is not None else None
    log = perf_client.HandshakeCount(keylog_to(keylog))
    tls = ClientConfig(host, (ALPN,), verify=not insecure, ca=ca, identity=identity, keylog=log)
    move = (migrate_to or "", 0) if migrate or migrate_to else None
    store = FileSessionStore(sessions_file()) if resume else None
    plan = perf_client.Plan(size, upload, max(streams, 1), move)

    def dial() -> connect:
        return connect(
            host,
            port,
            alpn=ALPN,
            tls=tls,
            configuration=_configuration(udp_payload, congestion, quic_version),
            qlog=qlog,
            session_store=store,
            early_data=resume,
        )

    try:
        if handshakes:
            result = asyncio.run(perf_client.handshakes(handshakes, dial))
        else:
            result = asyncio.run(perf_client.transfer(plan, dial, log, quiet=as_json))
    except perf_client.WrongLengthError as error:
        raise click.ClickException(str(error)) from error
    except (ConnectionClosed, TimeoutError, OSError) as error:
        raise click.ClickException(f"{host}:{port}: {error or 'no answer'}") from error
    if store is not None and store.failure is not None:
        warn(f"the session is not kept: {store.failure}")
    click.echo(json.dumps(result) if as_json else perf_client.describe(result, resume=resume))
