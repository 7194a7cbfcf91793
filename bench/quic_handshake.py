"""Full handshakes with verified certificates: latency, how many a second, CPU per handshake on each side."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from bench.certificates import Certificate
from bench.quic_peers import ALPN, ServerProcess, cpu_s, fairway_configuration, peer_configuration
from bench.result import Result
from fairway.aio import connect
from fairway.tls import ClientConfig, NamedGroup

FIRST_VISIT = "fairway, first visit"
"""A client that has neither met this server's certificate chain nor loaded its authorities."""

PEERS = ("fairway", FIRST_VISIT, "qh3", "aioquic")
COUNT = 500
WARM_UP = 20
CONCURRENT = 8
ROUNDS = 5


Dial = Callable[[], AbstractAsyncContextManager[Any]]


def _dialer(who: str, port: int, certificate: Certificate) -> Dial:
    """What makes a connection: entering it completes the handshake, leaving it closes."""
    if who.startswith("fairway"):
        ours = fairway_configuration(1200)
        if who == FIRST_VISIT:
            ca = [certificate.root]
            return lambda: connect("127.0.0.1", port, alpn=ALPN, server_name="localhost", ca=ca, configuration=ours)
        tls = ClientConfig("localhost", (ALPN,), ca=[certificate.root])
        return lambda: connect("127.0.0.1", port, alpn=ALPN, tls=tls, configuration=ours)
    client = importlib.import_module(f"{who}.asyncio.client")
    configuration: Any = peer_configuration(who, 1200, is_client=True, server_name="localhost")
    configuration.load_verify_locations(str(certificate.authority))

    def dial() -> AbstractAsyncContextManager[Any]:
        context: AbstractAsyncContextManager[Any] = client.connect("127.0.0.1", port, configuration=configuration)
        return context

    return dial


async def _group(who: str, dial: Dial) -> str:
    """The key exchange that both sides agree on by themselves."""
    if who.startswith("fairway"):
        async with dial() as connection:
            return NamedGroup(connection.handshake.group).name
    tls: Any = importlib.import_module(f"{who}.tls")
    parse, chosen = tls.pull_server_hello, []

    def noting(*arguments: Any) -> Any:
        hello = parse(*arguments)
        chosen.append(hello.key_share[0])
        return hello

    tls.pull_server_hello = noting
    async with dial():
        tls.pull_server_hello = parse
    return NamedGroup(chosen[0]).name


async def _measure(dial: Dial, count: int, concurrent: int) -> tuple[list[float], float, float]:
    """Latencies, handshakes a second, CPU seconds of this process. Closing goes on in the background."""
    for _ in range(WARM_UP):
        async with dial():
            pass
    times: list[float] = []
    closing: set[asyncio.Task[None]] = set()
    left = count

    async def leave(context: AbstractAsyncContextManager[Any]) -> None:
        await context.__aexit__(None, None, None)

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            context = dial()
            await context.__aenter__()
            times.append(time.perf_counter() - begun)
            task = asyncio.create_task(leave(context))
            closing.add(task)  # only while it runs: a thousand of them would be work for the garbage collector
            task.add_done_callback(closing.discard)

    used, begun = cpu_s(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrent)))
    rate = len(times) / (time.perf_counter() - begun)
    await asyncio.gather(*closing)
    return times, rate, cpu_s() - used


def _round(who: str) -> tuple[dict[str, float], str]:
    """The figures and the key exchange group."""
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(who.partition(",")[0], Path(directory), 1200)
        receiving, sending = multiprocessing.Pipe(duplex=False)

        def client() -> None:
            dial = _dialer(who, server.port, server.certificate)
            times, _, _ = asyncio.run(_measure(dial, COUNT, 1))
            _, rate, used = asyncio.run(_measure(dial, COUNT, CONCURRENT))
            sending.send((statistics.median(times), rate, used / COUNT, asyncio.run(_group(who, dial))))

        process = multiprocessing.get_context("fork").Process(target=client, daemon=True)
        process.start()
        sending.close()
        try:
            if not receiving.poll(120):
                raise TimeoutError(f"{who} did not end")
            latency, rate, client_cpu, group = receiving.recv()
        finally:
            process.terminate()
            process.join(5)
            server_cpu = server.stop()
        total = 2 * (COUNT + WARM_UP) + 1
        figures = {
            "handshake latency, median": latency * 1e3,
            "handshakes": rate,
            "client CPU per handshake": client_cpu * 1e3,
            "server CPU per handshake": server_cpu / total * 1e3,
        }
        return figures, group


def run() -> Result:
    """Medians of rounds that take the peers in turn."""
    result = Result("quic_handshake")
    samples: dict[str, list[dict[str, float]]] = {who: [] for who in PEERS}
    groups: dict[str, str] = {}
    for _ in range(ROUNDS):
        for who in PEERS:
            figures, groups[who] = _round(who)
            samples[who].append(figures)
    units = {
        "handshake latency, median": "ms",
        "handshakes": "1/s",
        "client CPU per handshake": "ms",
        "server CPU per handshake": "ms",
    }
    for what, unit in units.items():
        for who in PEERS:
            result.add(who, what, [sample[what] for sample in samples[who]], unit)
        for ours in ("fairway", FIRST_VISIT):
            for peer in ("qh3", "aioquic"):
                result.compare(what, ours, peer)
    result.notes.append(
        f"{COUNT} handshakes one by one for the latency, {CONCURRENT} at a time for the rate; closing goes on beside"
        " them and is not waited for; a server's CPU counts from when it is ready"
    )
    result.notes.append(
        "P-256 certificates of an authority, verified by all; fairway remembers for a while that it found a chain good:"
        f" '{FIRST_VISIT}' parses configuration and authorities and judges the chain every time; both remember what"
        " the transport parameters of peers of one kind begin with"
    )
    result.notes.append("key exchange, by default: " + ", ".join(f"{who} {group}" for who, group in groups.items()))
    return result


if __name__ == "__main__":
    print(run().as_table())
