"""What `fairway perf get` does on a connection: transfer bytes, measure handshakes, move half-way; and says of it."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from fairway.aio import QuicConnection, Stream, UsageError, connect
from fairway.cli.quic_version import version_name
from fairway.tls import KeyLog

ALPN = "fairway-perf/1"
REQUEST = struct.Struct("!cQ")
"""What a client asks for: `D` and how many bytes to send it, or `U` and how many it sends."""

_BLOCK = bytes(range(256)) * 4096


class WrongLengthError(Exception):
    """Fewer or more bytes arrived than were sent."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to transfer; `move` is the local address and port to move to half-way, empty and 0 where that is free."""

    size: int
    upload: bool
    streams: int
    move: tuple[str, int] | None


class HandshakeCount:
    """A key log that counts: each handshake has secrets of its own, and each line goes on to `log`."""

    def __init__(self, log: KeyLog | None) -> None:
        self._log = log
        self.handshakes = 0

    def __call__(self, line: str) -> None:
        """Take one line."""
        self.handshakes += line.startswith("CLIENT_HANDSHAKE_TRAFFIC_SECRET ")
        if self._log is not None:
            self._log(line)


class _Half:
    """Counts bytes; the event is set once half of them are there."""

    def __init__(self, size: int, progress: Callable[[int], None]) -> None:
        self._size = size
        self._progress = progress
        self.count = 0
        self.first_byte: float | None = None
        self.there = asyncio.Event()

    def __call__(self, count: int) -> None:
        if self.first_byte is None:
            self.first_byte = time.perf_counter()
        self.count += count
        if 2 * self.count >= self._size:
            self.there.set()
        self._progress(count)


async def transfer(plan: Plan, dial: Callable[[], connect], log: HandshakeCount, *, quiet: bool) -> dict[str, Any]:
    """Figures of one transfer. Raises what connecting raises, and `WrongLengthError`."""
    begun = time.perf_counter()
    async with dial() as connection:
        usable = time.perf_counter()
        with _progress(plan.size, quiet) as progress:
            half = _Half(plan.size, progress)
            share = plan.size // plan.streams
            lengths = [share + plan.size - share * plan.streams] + [share] * (plan.streams - 1)
            work = _upload if plan.upload else _download
            handshake_s, moved, *_ = await asyncio.gather(
                _connected(connection, begun),
                _move(connection, plan.move, half),
                *(work(connection, length, half) for length in lengths),
            )
        ended = time.perf_counter()
        figures = connection.statistics()
    agreed = connection.handshake
    return {
        "direction": "upload" if plan.upload else "download",
        "bytes": plan.size,
        "streams": plan.streams,
        "seconds": ended - usable,
        "gbit_per_s": plan.size * 8 / max(ended - usable, 1e-9) / 1e9,
        "handshake_ms": handshake_s * 1e3,
        "first_byte_ms": None if half.first_byte is None or plan.upload else (half.first_byte - begun) * 1e3,
        "quic_version": version_name(int(figures["quic_version"])),
        "rtt_ms": figures["smoothed_rtt_s"] * 1e3,
        "packets_sent": figures["packets_sent"],
        "handshakes": log.handshakes,
        "resumed": agreed is not None and agreed.resumed,
        "early": {None: None, True: "accepted", False: "rejected"}[connection.early],
        "early_bytes": figures["early_bytes_sent"],
        "moved": moved,
    }


async def _connected(connection: QuicConnection, begun: float) -> float:
    await connection.wait_connected()
    return time.perf_counter() - begun


async def _move(connection: QuicConnection, where: tuple[str, int] | None, half: _Half) -> dict[str, Any] | None:
    """Move half-way, if anywhere; the paths before and after, and how long it took."""
    if where is None:
        return None
    await half.there.wait()
    before = _path(connection)
    begun, at = time.perf_counter(), half.count
    error = None
    try:
        await connection.migrate(where if where[0] else None)
    except (OSError, UsageError) as problem:
        error = str(problem)
    return {
        "from": before,
        "to": _path(connection),
        "after_bytes": at,
        "ms": (time.perf_counter() - begun) * 1e3,
        "error": error,
    }


def _path(connection: QuicConnection) -> dict[str, Any]:
    local, peer, rtt = connection.local_address, connection.peer_address, connection.core.path.rtt.smoothed
    return {"local": _address(local), "peer": _address(peer), "rtt_ms": rtt * 1e3}


def _address(address: Any) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{host}:{address[1]}"


async def _download(connection: QuicConnection, length: int, progress: Callable[[int], None]) -> None:
    stream = await connection.open_stream()
    await stream.send(REQUEST.pack(b"D", length), end=True)
    count = 0
    while data := await stream.receive():
        count += len(data)
        progress(len(data))
    if count != length:
        raise WrongLengthError(f"{count} bytes arrived of {length}")


async def _upload(connection: QuicConnection, length: int, progress: Callable[[int], None]) -> None:
    stream = await connection.open_stream()
    await stream.send(REQUEST.pack(b"U", length))
    await send(stream, length, progress)
    count = int.from_bytes(await stream.receive_all(8), "big")
    if count != length:
        raise WrongLengthError(f"{count} bytes arrived of {length}")


async def send(stream: Stream, length: int, progress: Callable[[int], None] | None = None) -> None:
    """Send so many bytes and end the stream."""
    left = length
    while left > 0:
        size = min(left, len(_BLOCK))
        await stream.send(_BLOCK if size == len(_BLOCK) else _BLOCK[:size])
        left -= size
        if progress is not None:
            progress(size)
    stream.finish()


async def handshakes(count: int, dial: Callable[[], connect]) -> dict[str, Any]:
    """Figures of so many handshakes, one after the other."""
    times = []
    begun = time.perf_counter()
    for _ in range(count):
        start = time.perf_counter()
        async with dial() as connection:
            await connection.wait_connected()
            times.append(time.perf_counter() - start)
    total = time.perf_counter() - begun
    return {"handshakes": count, "median_ms": statistics.median(times) * 1e3, "per_s": count / total}


def _ignore(count: int) -> None:
    """No progress bar was asked for."""


@contextlib.contextmanager
def _progress(size: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A function that counts bytes on a progress bar, now and then."""
    if quiet:
        yield _ignore
        return
    bar: Any = click.progressbar(length=size, label="transferring", file=sys.stderr)
    with bar:
        waiting = 0

        def advance(count: int) -> None:
            nonlocal waiting
            waiting += count
            if waiting >= size // 200:
                bar.update(waiting)
                waiting = 0

        yield advance
        bar.update(waiting)


def describe(result: dict[str, Any], *, resume: bool) -> str:
    """The figures as a sentence or three."""
    if "median_ms" in result:
        return f"{result['handshakes']} handshakes, median {result['median_ms']:.2f} ms, {result['per_s']:.0f} a second"
    lines = [
        f"{result['bytes'] / 1e6:,.0f} MB in {result['seconds']:.2f} s: {result['gbit_per_s']:.2f} Gbit/s "
        f"({result['direction']}, {result['streams']} stream{'s' if result['streams'] > 1 else ''}; "
        f"handshake {result['handshake_ms']:.1f} ms, round trip {result['rtt_ms']:.2f} ms, "
        f"QUIC version {result['quic_version']})"
    ]
    if resume:
        lines.append(_of_session(result))
    if result["moved"] is not None:
        lines.append(_of_move(result["moved"], result["handshakes"]))
    return "\n".join(lines)


def _of_session(result: dict[str, Any]) -> str:
    if not result["resumed"]:
        return "a new session, nothing was early; the next run can resume it"
    early = {None: "nothing was early", "accepted": "accepted", "rejected": "rejected, and sent again"}[result["early"]]
    if result["early"] is not None:
        early = f"{result['early_bytes']} bytes went out in 0-RTT: {early}"
    first = result["first_byte_ms"]
    return f"resumed; {early}" + ("" if first is None else f"; first byte after {first:.1f} ms")


def _of_move(moved: dict[str, Any], handshakes: int) -> str:
    before, after = moved["from"], moved["to"]
    count = "one handshake" if handshakes == 1 else f"{handshakes} handshakes"
    here = f"{before['local']} (round trip {before['rtt_ms']:.2f} ms)"
    if moved["error"]:
        return f"stayed at {here}: {moved['error']}; {count} in all"
    return (
        f"moved from {here} to {after['local']} (round trip {after['rtt_ms']:.2f} ms) after "
        f"{moved['after_bytes'] / 1e6:,.0f} MB, in {moved['ms']:.1f} ms; {count} in all"
    )
