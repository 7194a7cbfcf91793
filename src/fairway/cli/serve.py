"""`fairway serve`: an application or the files of a directory, by HTTP/3, HTTP/2 and HTTP/1.1."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fairway.cli.cache import development_certificate
from fairway.cli.output import plural
from fairway.cli.problems import warn
from fairway.cli.quic_version import for_servers
from fairway.net.model.errors import FairwayError

if TYPE_CHECKING:
    from fairway.http.server.asgi import Application
    from fairway.http.server.certificates import Certificates
    from fairway.http.server.service import Settings
    from fairway.http.server.sockets import Sockets
    from fairway.quic.endpoint.ids import ServerId

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_PORT = 4433
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SECONDS = click.FloatRange(min=0)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    application: str | None
    directory: Path | None
    listing: bool
    index: str
    app_dir: Path
    factory: bool
    root_path: str
    host: str | None
    port: int
    tcp: bool
    redirect_http: int | None
    certificate: tuple[Path, ...]
    key: tuple[Path, ...]
    self_signed: bool
    client_ca: Path | None
    require_client_certificate: bool
    keylog: Path | None
    early_data: bool
    workers: int
    reload: bool
    grace: float
    drain: float
    server_id: str | None
    server_id_rotation: int
    access_log: bool
    as_json: bool
    quic_version: tuple[int, ...] | None
    limit_body: int | None
    limit_requests: int | None
    limit_connections: int
    limit_per_address: int
    limit_streams: int
    limit_idle: float
    limit_head: float
    limit_read: float
    limit_rate: int
    limit_write: float


_OPTIONS: list[Callable[[Any], Any]] = [
    click.argument("application", metavar="[MODULE:ATTRIBUTE]", required=False),
    click.option(
        "--directory", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Serve these files instead."
    ),
    click.option("--listing", is_flag=True, help="With --directory: list directories that have no index."),
    click.option("--index", default="index.html", show_default=True, help="With --directory: what a directory shows."),
    click.option(
        "--app-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        help="Where to import the application from. [here]",
    ),
    click.option("--factory", is_flag=True, help="The application is what the attribute returns when called."),
    click.option("--root-path", default="", help="The path that the application is mounted at."),
    click.option("--host", default=None, help="Address or name to listen on. [all addresses]"),
    click.option("--port", default=DEFAULT_PORT, show_default=True, help="UDP and TCP port; 0 takes a free one."),
    click.option("--tcp/--no-tcp", default=True, help="HTTP/1.1 and HTTP/2 on the same port in TCP. [tcp]"),
    click.option("--redirect-http", metavar="PORT", type=int, help="Redirect plain HTTP on this TCP port to https."),
    click.option("--certificate", type=_FILE, multiple=True, help="PEM file of the chain; repeat for several names."),
    click.option("--key", type=_FILE, multiple=True, help="PEM file of its private key; one for each certificate."),
    click.option("--self-signed", is_flag=True, help="Make a certificate on the spot, for development."),
    click.option("--client-ca", type=_FILE, help="PEM file of whose certificates clients may show."),
    click.option("--require-client-certificate", is_flag=True, help="Refuse clients that show none."),
    click.option(
        "--keylog",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Append TLS secrets here, for Wireshark. [$SSLKEYLOGFILE]",
    ),
    click.option("--early-data", is_flag=True, help="Let returning clients ask in 0-RTT; what is not safe gets 425."),
    click.option(
        "--workers", type=click.IntRange(0, 512), default=0, help="Processes, with one that looks after them. [none]"
    ),
    click.option("--reload", is_flag=True, help="Reload when a Python file below --app-dir changes, for development."),
    click.option(
        "--grace", type=_SECONDS, default=10.0, show_default=True, help="Seconds for requests to end at a stop."
    ),
    click.option(
        "--drain",
        type=_SECONDS,
        default=600.0,
        show_default=True,
        help="With --workers: seconds for what was begun to end at a SIGHUP.",
    ),
    click.option("--server-id", metavar="HEX", help="Who this host is to a balancer that reads connection IDs. [none]"),
    click.option(
        "--server-id-rotation",
        type=click.IntRange(0, 6),
        default=0,
        show_default=True,
        help="Which of the balancer's configurations the ID belongs to.",
    ),
    click.option("--access-log/--no-access-log", default=True, help="Print a line a request. [access-log]"),
    click.option("--json", "as_json", is_flag=True, help="Print those lines, and how it started, as JSON."),
    for_servers,
    click.option("--limit-body", type=click.IntRange(min=0), help="Bytes of a request's body; more gets 413. [none]"),
    click.option("--limit-requests", type=click.IntRange(min=1), help="Requests at once; more get 503. [none]"),
    click.option(
        "--limit-connections",
        type=click.IntRange(min=1),
        default=100_000,
        show_default=True,
        help="Clients of one process, by HTTP/3 and over TCP each; more are refused.",
    ),
    click.option(
        "--limit-per-address",
        type=click.IntRange(min=1),
        default=10_000,
        show_default=True,
        help="The same from one address (IPv6: from one /64).",
    ),
    click.option(
        "--limit-streams", type=click.IntRange(1, 10000), default=128, show_default=True, help="The same of one client."
    ),
    click.option("--limit-idle", type=_SECONDS, default=60.0, show_default=True, help="Seconds without a request."),
    click.option(
        "--limit-head", type=_SECONDS, default=30.0, show_default=True, help="Seconds until a request's head is whole."
    ),
    click.option(
        "--limit-read", type=_SECONDS, default=60.0, show_default=True, help="Seconds to wait for a body's next bytes."
    ),
    click.option(
        "--limit-rate",
        type=click.IntRange(min=0),
        default=240,
        show_default=True,
        help="Bytes a second that a body must bring, after 30 seconds of waiting.",
    ),
    click.option(
        "--limit-write", type=_SECONDS, default=60.0, show_default=True, help="Seconds to wait until 256 KiB are taken."
    ),
]


def _with_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog="\b\nExamples:\n"
    "  fairway serve main:app --self-signed\n"
    "  fairway serve --directory site --listing --certificate chain.pem --key key.pem --port 443"
)
@_with_options
def serve(**given: Any) -> None:
    """Serve an ASGI application, or the files of a directory, by HTTP/3, HTTP/2 and HTTP/1.1.

    All three use one port and one certificate; answers over TCP tell clients of HTTP/3 by Alt-Svc. Interrupt it
    (Ctrl+C) or send SIGTERM to stop: clients are told, and what was asked is answered first.

    With --workers N a master keeps N processes running and starts those again that die. SIGHUP makes it replace them by
    new ones, with the application's new code: connections are not refused meanwhile, and the old processes end what was
    begun. The kernel gives each packet to the process that has its connection, wherever the client moves.
    """
    options = Options(**given)
    if (options.application is None) == (options.directory is None):
        raise click.UsageError("give either an application, MODULE:ATTRIBUTE, or --directory DIR")
    if options.redirect_http is not None and not options.tcp:
        raise click.UsageError("--redirect-http needs TCP: leave --no-tcp out")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    logging.getLogger("fairway.server.tcp").setLevel(logging.WARNING)
    settings = _settings(options)
    from fairway.http.server.sockets import open_sockets

    count = options.workers or int(options.reload)
    sockets = open_sockets(options.host, options.port, tcp=options.tcp, redirect_port=options.redirect_http)
    try:
        if count:
            _supervise(options, settings, sockets, count)
        else:
            asyncio.run(_run(options, _application(options), settings, sockets))
    finally:
        sockets.close()


def _supervise(options: Options, settings: Settings, sockets: Sockets, count: int) -> None:
    """Serve by worker processes until a signal comes."""
    from fairway.aio.workers.control import Control
    from fairway.aio.workers.duty import Patience
    from fairway.aio.workers.group import Group, Place
    from fairway.aio.workers.master import Master, StartError
    from fairway.http.server.watching import Watch
    from fairway.http.server.worker import work

    patience = Patience(options.grace, options.grace if options.reload else options.drain)

    def worker(place: Place, control: Control) -> int:
        def load() -> tuple[Application, Settings]:  # after a reload certificates may be other ones too
            return _load(options), settings if options.self_signed else _settings(options)

        return work(load, sockets, place, control, patience)

    master = Master(
        count,
        Group(sockets.udp, settings.server_id),
        worker,
        patience=patience,
        on_started=lambda: _announce(options, settings, sockets.port),
        changed=Watch(options.app_dir).changed if options.reload else None,
    )
    try:
        master.run()
    except StartError as error:
        raise FairwayError(error.message, mend=error.mend) from error


async def _run(options: Options, application: Application, settings: Settings, sockets: Sockets) -> None:
    """Serve in this process until a signal comes; a second one does not wait."""
    from fairway.http.server.asgi import LifespanError
    from fairway.http.server.collector import settle_collector
    from fairway.http.server.service import Service

    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def stopped() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped)
    service = Service(application, settings, udp=sockets.udp, tcp=sockets.tcp, redirect=sockets.redirect)
    loop.add_signal_handler(signal.SIGHUP, warn, "SIGHUP is ignored: reloading needs --workers")
    try:
        await service.start()
    except LifespanError as error:
        raise FairwayError(str(error)) from error
    settle_collector()
    _announce(options, settings, sockets.port)
    await stop.wait()
    closing = loop.create_task(service.close())
    hurrying = loop.create_task(hurry.wait())
    await asyncio.wait([closing, hurrying], return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if closing.done():
        try:
            closing.result()
        except LifespanError as error:
            raise FairwayError(str(error)) from error


def _settings(options: Options) -> Settings:
    from fairway.http.server.asgi import Limits
    from fairway.http.server.service import Settings
    from fairway.quic import QuicConfiguration
    from fairway.quic.endpoint.admission import AdmissionLimits

    return Settings(
        certificates=_certificates(options),
        limits=Limits(
            max_body=options.limit_body,
            max_requests=options.limit_requests,
            idle_timeout_s=options.limit_idle or None,
            request_timeout_s=options.limit_head or None,
            read_timeout_s=options.limit_read or None,
            min_body_rate=options.limit_rate or None,
            write_timeout_s=options.limit_write or None,
        ),
        configuration=QuicConfiguration(max_streams_bidi=options.limit_streams, versions=options.quic_version),
        admission=AdmissionLimits(
            connections=options.limit_connections, connections_per_address=options.limit_per_address
        ),
        server_id=_server_id(options),
        root_path=options.root_path.rstrip("/"),
        early_data=options.early_data,
        access_log=("json" if options.as_json else "text") if options.access_log else None,
        grace_s=options.grace,
    )


def _server_id(options: Options) -> ServerId | None:
    from fairway.quic import UsageError
    from fairway.quic.endpoint.ids import ServerId

    if options.server_id is None:
        return None
    try:
        return ServerId(bytes.fromhex(options.server_id), options.server_id_rotation)
    except ValueError as error:
        raise click.UsageError(f"--server-id {options.server_id}: give hexadecimal digits, such as 0a1b") from error
    except UsageError as error:
        raise click.UsageError(f"--server-id {options.server_id}: {error}") from error


def _certificates(options: Options) -> Certificates:
    from fairway.http.server.certificates import CertificateError, Certificates, load_identity, make_identity

    if len(options.certificate) != len(options.key):
        raise click.UsageError("each --certificate needs its --key, in the same order")
    if bool(options.certificate) == options.self_signed:
        raise click.UsageError("give --certificate and --key; or, for development, --self-signed")
    if options.require_client_certificate and options.client_ca is None:
        raise click.UsageError("--require-client-certificate needs --client-ca: whose certificates to accept")
    try:
        if options.self_signed:
            identities = [make_identity(options.host)]
        else:
            pairs = zip(options.certificate, options.key, strict=True)
            identities = [load_identity(certificate, key) for certificate, key in pairs]
    except CertificateError as error:
        raise FairwayError(str(error)) from error
    return Certificates(
        tuple(identities), options.client_ca, options.require_client_certificate, _keylog(options.keylog)
    )


def _keylog(path: Path | None) -> Path | None:
    import os

    from_environment = os.environ.get("SSLKEYLOGFILE")
    return path or (Path(from_environment) if from_environment else None)


def _application(options: Options) -> Application:
    from fairway.http.server.loading import ApplicationNotFoundError

    try:
        return _load(options)
    except ApplicationNotFoundError as error:
        raise FairwayError(error.message, mend=error.mend) from error


def _load(options: Options) -> Application:
    from fairway.http.server.loading import load_application

    if options.directory is not None:
        from fairway.http.server.files import Files

        return Files(options.directory, index=options.index, listing=options.listing)
    assert options.application is not None
    return load_application(options.application, directory=options.app_dir, factory=options.factory)


def _announce(options: Options, settings: Settings, port: int) -> None:
    """Say on stderr what is served where; with --json as a document."""
    import json

    from fairway.http.server.certificates import pem, public_key_hash

    identity = settings.certificates.identities[0]
    host = options.host or "localhost"
    url = f"https://{f'[{host}]' if ':' in host else host}{'' if port == 443 else f':{port}'}/"
    protocols = ["h3", "h2", "http/1.1"] if options.tcp else ["h3"]
    what = options.application or str(options.directory)
    names = ", ".join(identity.names) or "no DNS name"
    if options.as_json:
        document = {
            "url": url,
            "protocols": protocols,
            "serves": what,
            "workers": options.workers,
            "key_hash": public_key_hash(identity),
        }
        click.echo(json.dumps(document), err=True)
        return
    workers = f" with {plural(options.workers, 'worker')}" if options.workers else ""
    click.echo(f"{what} at {url} by {', '.join(protocols)}{workers}; stop with Ctrl+C", err=True)
    count = len(settings.certificates.identities)
    if not options.self_signed:
        others = f" and {plural(count - 1, 'other')}" if count > 1 else ""
        click.echo(f"certificate for {names}{others}", err=True)
        return
    path = development_certificate("serve", port)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pem(identity))
    click.echo(f"self-signed certificate for {names}: {path}", err=True)
    click.echo(f"  curl --http3 --cacert {path} {url}", err=True)
    click.echo(
        f"  chromium --origin-to-force-quic-on={host}:{port} "
        f"--ignore-certificate-errors-spki-list={public_key_hash(identity)} {url}",
        err=True,
    )
