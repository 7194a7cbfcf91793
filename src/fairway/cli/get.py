"""`fairway get`: fetch URLs over HTTP/3."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from fairway.aio import FileSessionStore, happy_eyeballs
from fairway.aio.keylog import keylog_to
from fairway.cli import get_body, get_problems, get_report, problems
from fairway.cli.cache import sessions_file
from fairway.cli.get_progress import TransferProgress
from fairway.cli.output import print_json
from fairway.cli.quic_version import for_clients
from fairway.http.client import url as urls
from fairway.http.client.decoding import accepted
from fairway.http.client.dialing import CONFIGURATION, dialer
from fairway.http.client.download import Ask, Policy, Result, fetch
from fairway.http.client.pool import Pool
from fairway.http.client.saving import Nowhere, PartFile, Saving, Stream
from fairway.http3 import Fields
from fairway.tls import Identity

AT_ONCE = 64
"""Transfers that run at the same time."""

MAX_REDIRECTS = 20
HANDSHAKE_LIMIT_S = 10.0

_FIELD = re.compile(r"([^:\s]+):[ \t]*(.*?)[ \t]*").fullmatch
_OF_CONNECTIONS = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"})


@dataclass(slots=True)
class Transfer:
    """One URL of the command line: what is asked, where it goes, what came of it."""

    given: str
    saving: Saving
    result: Result
    problem: get_problems.Problem | None = None
    remains: str = ""
    told: bool = False


@dataclass(slots=True)
class Resolver:
    """Finds addresses: those of --resolve, or the system's; and notes how long it took."""

    fixed: dict[tuple[str, int], str]
    seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    async def __call__(self, host: str, port: int) -> Sequence[happy_eyeballs.Address]:
        """The addresses of a host."""
        begun = time.perf_counter()
        found = await happy_eyeballs.resolve(self.fixed.get((host.lower(), port), host), port)
        self.seconds[host, port] = time.perf_counter() - begun
        return found


def _parse_fields(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Fields:
    fields: Fields = []
    for line in given:
        match = _FIELD(line)
        if match is None:
            raise click.BadParameter(f"{line!r}: write it as 'Name: value'")
        name = match[1].lower()
        if name in _OF_CONNECTIONS:
            raise click.BadParameter(f"{match[1]!r} has no place in HTTP/3; where to connect to: --resolve")
        fields.append((name.encode("utf-8", "surrogateescape"), match[2].encode("utf-8", "surrogateescape")))
    return fields


def _parse_resolve(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[tuple[str, int], str]:
    fixed: dict[tuple[str, int], str] = {}
    for entry in given:
        host, _between, rest = entry.partition(":")
        port, _between, address = rest.partition(":")
        try:
            fixed[host.lower(), int(port)] = str(ipaddress.ip_address(address.strip("[]")))
        except ValueError:
            raise click.BadParameter(f"{entry!r}: write it as HOST:PORT:ADDRESS") from None
    return fixed


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SECONDS = click.FloatRange(min=0.001)


@click.command("get", epilog=get_report.EXAMPLES)
@click.argument("given", metavar="URL...", nargs=-1, required=True)
@click.option("-o", "--output", help="Save there; several URLs into a directory; - is stdout. [stdout]")
@click.option("-O", "--remote-name", is_flag=True, help="Save under the name in the URL.")
@click.option("-H", "--header", "fields", multiple=True, callback=_parse_fields, help="Send 'Name: value'.")
@click.option("-X", "--request", "method", metavar="METHOD", help="The method. [GET; POST with --data]")
@click.option("--data", metavar="TEXT|@FILE|-", help="Send a body: a text, a file, or what comes on stdin.")
@click.option("-I", "--head", is_flag=True, help="Ask for the head of the response only, and print it.")
@click.option("-i", "--include", is_flag=True, help="Print the head of the response on stdout too.")
@click.option("-L", "--follow", is_flag=True, help=f"Follow redirects, {MAX_REDIRECTS} at most.")
@click.option("-C", "--continue", "resume", is_flag=True, help="Continue what is in FILE.part.")
@click.option("--range", "byte_range", metavar="FROM-TO", help="Ask for these bytes only: 0-99, 100-, -50.")
@click.option("--compressed", is_flag=True, help="Offer gzip and br, and save what it was before.")
@click.option("-f", "--fail", is_flag=True, help="Exit with 22 for a status of 400 or more, and save nothing.")
@click.option("-k", "--insecure", is_flag=True, help="Do not verify the server.")
@click.option("--ca", type=_FILE, help="PEM file of whom to trust. [the system's]")
@click.option("--cert", type=_FILE, help="PEM file of our certificate.")
@click.option("--key", type=_FILE, help="PEM file of its private key. [in --cert]")
@click.option(
    "--resolve",
    "fixed",
    metavar="HOST:PORT:ADDRESS",
    multiple=True,
    callback=_parse_resolve,
    help="Use this address for a host.",
)
@click.option("--connect-timeout", type=_SECONDS, help=f"Seconds for a connection. [{HANDSHAKE_LIMIT_S:.0f}]")
@click.option("--max-time", type=_SECONDS, help="Seconds for each URL. [no limit]")
@click.option("--priority", help="Say how urgent it is (RFC 9218): u=0 to u=7, i.")
@click.option("--sha256", is_flag=True, help="Print the digest of what was saved.")
@for_clients
@click.option("--keylog", type=click.Path(path_type=Path), help="Append TLS secrets here. [$SSLKEYLOGFILE]")
@click.option(
    "--resume", "returning", is_flag=True, help="Resume sessions of earlier runs, with 0-RTT; remember new ones."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document about what was fetched.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def get(ctx: click.Context, /, given: tuple[str, ...], **options: Any) -> None:
    """Fetch URLs over HTTP/3; those of one host share a connection, at the same time."""
    try:
        transfers = _transfers(given, options)
    except urls.UrlError as error:
        raise click.UsageError(str(error)) from error
    as_json = options["as_json"]
    resolver = Resolver(options["fixed"])
    store = FileSessionStore(sessions_file()) if options["returning"] else None
    try:
        pool = Pool(_dial(options, resolver, store))
    except (OSError, ValueError, TypeError) as error:
        raise click.UsageError(f"--ca, --cert or --key: {error}") from error
    progress = TransferProgress(len(transfers), quiet=options["quiet"] or as_json)
    run = _Run(pool, _policy(options), progress, options["max_time"], as_json=as_json, shows_head=options["include"])
    try:
        asyncio.run(run.all(transfers))
    finally:
        progress.clear()
        for transfer in transfers:
            run.tell(transfer)
    if store is not None and store.failure is not None:
        problems.warn(f"sessions are not kept: {store.failure}")
    if as_json:
        print_json({"transfers": [get_report.document(transfer, resolver.seconds) for transfer in transfers]})
    else:
        for transfer in transfers:
            if transfer.result.digest:
                click.echo(f"{transfer.result.digest}  {get_report.place(transfer)}", err=True)
        if options["returning"]:
            for line in get_report.sessions([transfer.result for transfer in transfers]):
                click.echo(line, err=True)
    failed = [transfer.problem.exit_code for transfer in transfers if transfer.problem is not None]
    ctx.exit(failed[0] if failed else 0)


# From the options


def _transfers(given: tuple[str, ...], options: dict[str, Any]) -> list[Transfer]:
    if options["byte_range"] and (options["resume"] or options["compressed"]):
        raise click.UsageError("--range goes neither with -C, which asks for a range itself, nor with --compressed")
    if options["resume"] and options["compressed"]:
        raise click.UsageError("-C cannot continue what --compressed has decoded")
    if options["key"] and not options["cert"]:
        raise click.UsageError("--key needs --cert")
    body, of_body, replayable = get_body.of(options["data"])
    if len(given) > 1 and not replayable:
        raise click.UsageError("standard input can be sent to one URL only")
    method = options["method"] or ("HEAD" if options["head"] else "GET" if options["data"] is None else "POST")
    names = {name for name, _ in options["fields"]}
    fields = [*options["fields"], *(known for known in [*of_body, *_asked(options)] if known[0] not in names)]
    asks = [Ask(urls.parse(text), method, fields, body, replayable) for text in given]
    savings = _savings([ask.url for ask in asks], options)
    return [Transfer(text, saving, Result(ask)) for text, saving, ask in zip(given, savings, asks, strict=True)]


def _asked(options: dict[str, Any]) -> Fields:
    fields: Fields = [(b"accept", b"*/*"), (b"user-agent", b"fairway")]
    if options["byte_range"]:
        if not re.fullmatch(r"(?:[0-9]+-[0-9]*|-[0-9]+)(?:,(?:[0-9]+-[0-9]*|-[0-9]+))*", options["byte_range"]):
            raise click.UsageError(f"--range {options['byte_range']!r}: write it as FROM-TO, FROM- or -LAST")
        fields.append((b"range", b"bytes=" + options["byte_range"].encode("ascii")))
    if options["compressed"]:
        fields.append((b"accept-encoding", accepted().encode("ascii")))
    if options["priority"]:
        fields.append((b"priority", options["priority"].encode("utf-8")))
    return fields


def _savings(given: list[urls.Url], options: dict[str, Any]) -> list[Saving]:
    output = options["output"]
    if options["head"]:
        return [Nowhere() for _ in given]
    if output is not None and options["remote_name"]:
        raise click.UsageError("-o and -O: either a name or the URL's")
    directory = Path() if options["remote_name"] else None
    if output not in (None, "-") and (output.endswith("/") or Path(output).is_dir()):
        directory = Path(output)
        directory.mkdir(parents=True, exist_ok=True)
    if directory is not None:
        names = [url.file_name for url in given]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise click.UsageError(f"two URLs would be saved as {twice}: fetch them one after another, with -o")
        return [PartFile(directory / name, resume=options["resume"]) for name in names]
    if len(given) > 1 and not (output is None and options["as_json"]):
        raise click.UsageError("several URLs need a place each: -o DIRECTORY/ or -O")
    if output not in (None, "-"):
        return [PartFile(Path(output), resume=options["resume"])]
    if options["resume"]:
        raise click.UsageError("-C continues a file: name it with -o FILE or -O")
    if options["as_json"]:
        if output == "-":
            raise click.UsageError("--json prints on stdout: save the body with -o FILE")
        return [Nowhere() for _ in given]
    return [Stream(1)]


def _dial(options: dict[str, Any], resolver: Resolver, store: FileSessionStore | None) -> Any:
    cert = options["cert"]
    identity = Identity.from_files(cert, options["key"] or cert) if cert else None
    return dialer(
        verify=not options["insecure"],
        ca=options["ca"],
        identity=identity,
        keylog=keylog_to(options["keylog"]),
        timeout=options["connect_timeout"] or HANDSHAKE_LIMIT_S,
        resolve=resolver,
        configuration=replace(CONFIGURATION, versions=options["quic_version"]),
        session_store=store,
    )


def _policy(options: dict[str, Any]) -> Policy:
    return Policy(
        max_redirects=MAX_REDIRECTS if options["follow"] else 0,
        decode=options["compressed"],
        digest=options["sha256"],
        refuse_errors=options["fail"],
    )


# Doing it


class _Run:
    """All transfers of one command, on one pool."""

    def __init__(
        self,
        pool: Pool,
        policy: Policy,
        progress: TransferProgress,
        max_time: float | None,
        *,
        as_json: bool,
        shows_head: bool,
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._progress = progress
        self._max_time = max_time
        self._as_json = as_json
        self._shows_head = shows_head

    async def all(self, transfers: list[Transfer]) -> None:
        """Run them, `AT_ONCE` at the same time; what fails is noted in its transfer."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(transfer: Transfer) -> None:
            async with turns:
                await self._one(transfer)
            self._progress.finished()

        try:
            async with asyncio.TaskGroup() as tasks:
                for transfer in transfers:
                    tasks.create_task(one(transfer))
        finally:
            await self._pool.aclose()

    async def _one(self, transfer: Transfer) -> None:
        result = transfer.result
        try:
            async with asyncio.timeout(self._max_time):
                await fetch(
                    self._pool,
                    result,
                    transfer.saving,
                    self._policy,
                    on_head=lambda _: self._head(transfer),
                    on_bytes=self._progress.add,
                )
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads: nothing more to print, and no complaint
            transfer.problem = get_problems.Problem("nobody reads standard output", "", get_problems.NOT_WRITTEN)
            transfer.told = True
        except BaseException as error:
            transfer.remains = transfer.saving.give_up()
            transfer.problem = get_problems.of(error, result.ask.url, connected=result.connected)
            if transfer.problem is None:
                transfer.told = not isinstance(error, asyncio.CancelledError)
                raise
            self._progress.clear()
            self.tell(transfer)

    def _head(self, transfer: Transfer) -> None:
        self._progress.announced(transfer.result.total)
        if not self._as_json and (self._shows_head or transfer.result.ask.method == "HEAD"):
            self._progress.clear()
            click.echo(get_report.head(transfer.result))

    def tell(self, transfer: Transfer) -> None:
        """Say once what went wrong, and what remains."""
        problem, remains = transfer.problem, transfer.remains
        if transfer.told or (problem is None and not remains):
            return
        transfer.told = True
        if self._as_json:
            return  # the document says it
        if problem is None:
            click.echo(f"{transfer.given}: not finished; {remains}", err=True)
            return
        problems.tell(f"{problem.message}{'; ' + remains if remains else ''}", problem.mend)
