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

from bench.quic_peers import ALPN, Certificate, ServerProcess, cpu_s, fairway_configuration, peer_configuration
from bench.result import Result
from fairway.aio import connect
from fairway.tls import ClientConfig

PEERS = ("fairway", "qh3", "aioquic")
COUNT = 300
WARM_UP = 20
CONCURRENT = 8
ROUNDS = 3


def _dialer(who: str, port: int, certificate: Certificate) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """What makes a connection: entering it completes the handshake, leaving it closes."""
    if who == "fairway":
        tls = ClientConfig("localhost", (ALPN,), ca=[certificate.root])
        ours = fairway_configuration(1200)
        return lambda: connect("127.0.0.1", port, alpn=ALPN, tls=tls, configuration=ours)
    client = importlib.import_module(f"{who}.asyncio.client")

    def dial() -> AbstractAsyncContextManager[Any]:
        configuration: Any = peer_configuration(who, 1200, is_client=True, server_name="localhost")
        configuration.load_verify_locations(str(certificate.authority))
        context: AbstractAsyncContextManager[Any] = client.connect("127.0.0.1", port, configuration=configuration)
        return context

    return dial


async def _measure(
    dial: Callable[[], AbstractAsyncContextManager[Any]], count: int, concurrent: int
) -> tuple[list[float], float, float]:
    """Latencies, handshakes a second, CPU seconds of this process. Closing goes on in the background."""
    for _ in range(WARM_UP):
        async with dial():
            pass
    times: list[float] = []
    closing: list[asyncio.Task[None]] = []
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
            closing.append(asyncio.create_task(leave(context)))

    used, begun = cpu_s(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrent)))
    rate = len(times) / (time.perf_counter() - begun)
    await asyncio.gather(*closing)
    return times, rate, cpu_s() - used


def _round(who: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(who, Path(directory), 1200)
        receiving, sending = multiprocessing.Pipe(duplex=False)

        def client() -> None:
            dial = _dialer(who, server.port, server.certificate)
            times, _, _ = asyncio.run(_measure(dial, COUNT, 1))
            _, rate, used = asyncio.run(_measure(dial, COUNT, CONCURRENT))
            sending.send((statistics.median(times), rate, used / COUNT))

        process = multiprocessing.get_context("fork").Process(target=client, daemon=True)
        process.start()
        sending.close()
        try:
            if not receiving.poll(120):
                raise TimeoutError(f"{who} did not end")
            latency, rate, client_cpu = receiving.recv()
        finally:
            process.terminate()
            process.join(5)
            server_cpu = server.stop()
        total = 2 * (COUNT + WARM_UP)
        return {
            "handshake latency, median": latency * 1e3,
            "handshakes": rate,
            "client CPU per handshake": client_cpu * 1e3,
            "server CPU per handshake": server_cpu / total * 1e3,
        }


def run() -> Result:
    """Medians of rounds that take the peers in turn."""
    result = Result("quic_handshake")
    samples: dict[str, list[dict[str, float]]] = {who: [] for who in PEERS}
    for _ in range(ROUNDS):
        for who in PEERS:
            samples[who].append(_round(who))
    units = {
        "handshake latency, median": "ms",
        "handshakes": "1/s",
        "client CPU per handshake": "ms",
        "server CPU per handshake": "ms",
    }
    for what, unit in units.items():
        for who in PEERS:
            result.add(who, what, [sample[what] for sample in samples[who]], unit)
        for peer in PEERS[1:]:
            result.compare(what, "fairway", peer)
    result.notes.append(
        f"{COUNT} handshakes one by one for the latency, {CONCURRENT} at a time for the rate; closing not counted"
    )
    result.notes.append("P-256 certificates of an authority, verified; each side's default key exchange")
    return result


if __name__ == "__main__":
    print(run().as_table())
