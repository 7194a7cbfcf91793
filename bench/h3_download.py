"""A large file over HTTP/3 to curl: the server on one core, curl on the other, every byte compared as it arrives."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pycurl

from bench.h3_servers import CADDY, FAIRWAY, HYPERCORN, NGTCP2, NotHereError, Server, Site, busy_s, cpu_s
from bench.quic_peers import BLOCK, Verifier
from bench.quic_peers import cpu_s as own_cpu_s
from bench.result import Result

MIB = 1 << 20
SERVER_CORE, CLIENT_CORE = 0, 1
ROUNDS = 3
TIMEOUT_S = 60
LENGTHS = {FAIRWAY: 1024 * MIB, CADDY: 1024 * MIB, HYPERCORN: 48 * MIB, NGTCP2: 1024 * MIB}
SCALE = float(os.environ.get("FAIRWAY_BENCH_SCALE", "1"))
"""Less than 1 for a quick look."""


@dataclass(frozen=True)
class Download:
    """What one took."""

    length: int
    seconds: float
    client_cpu_s: float
    server_cpu_s: float
    others_cpu_s: float
    """Of all else on the machine, interrupts included: a busy machine makes everybody slower."""


def run() -> Result:
    """Gbit/s, and how busy both sides were: medians of rounds that take the servers in turn."""
    result = Result("h3_download")
    samples: dict[str, list[Download]] = {}
    missing: dict[str, None] = {}
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        site = Site(Path(directory))
        lengths = {who: int(length * SCALE) // MIB * MIB for who, length in LENGTHS.items()}
        for length in set(lengths.values()):
            with (site.files / f"{length}.bin").open("wb") as file:
                file.writelines([BLOCK] * (length // MIB))
        for _ in range(ROUNDS):
            for who, length in lengths.items():
                try:
                    with Server(who, site, cores=[SERVER_CORE]) as server:
                        samples.setdefault(who, []).append(_download(server, site, length))
                except (NotHereError, EOFError, TimeoutError) as error:
                    missing[f"{who}: {error}"] = None
    for who, taken in samples.items():
        result.add(who, "download", [one.length * 8 / one.seconds / 1e9 for one in taken], "Gbit/s")
        result.add(who, "server's CPU in use", [100 * one.server_cpu_s / one.seconds for one in taken], "%")
        result.add(who, "curl's core in use", [100 * one.client_cpu_s / one.seconds for one in taken], "%")
    shares = [100 * one.others_cpu_s / one.seconds for taken in samples.values() for one in taken]
    result.add("everything else", "CPU in use", shares, "%")
    for peer in (CADDY, HYPERCORN):
        result.compare("download", FAIRWAY, peer)
    result.notes += missing
    result.notes += [
        f"one file to {pycurl.version.split()[1]}, each byte compared by the client; medians of {ROUNDS} rounds",
        f"the server on core {SERVER_CORE} (GOMAXPROCS=1, one worker), curl on core {CLIENT_CORE};"
        " ngtcp2, an example server in C, shows what curl can take; Caddy with both cores is no faster: curl needs one",
        "lengths: " + ", ".join(f"{who} {length // MIB} MiB" for who, length in lengths.items()),
    ]
    return result


def _download(server: Server, site: Site, length: int) -> Download:
    """One download by curl in a process of its own."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    arguments = (server.port, site.certificate.authority, length, sending)
    process = multiprocessing.get_context("fork").Process(target=_client, args=arguments, daemon=True)
    running = server.processes()
    before, busy = cpu_s(running), busy_s()
    process.start()
    sending.close()
    try:
        if not receiving.poll(TIMEOUT_S):
            raise TimeoutError(f"no end after {TIMEOUT_S} s")
        seconds, used = receiving.recv()
        served = cpu_s(running) - before
        return Download(length, seconds, used, served, max(busy_s() - busy - used - served, 0.0))
    finally:
        process.terminate()
        process.join(5)


def _client(port: int, authority: Path, length: int, pipe: Pipe) -> None:
    """Send how many seconds and CPU seconds the download took; end without, if anything is wrong."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    verifier = Verifier()
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, f"https://localhost:{port}/{length}.bin")
    curl.setopt(pycurl.RESOLVE, [f"localhost:{port}:127.0.0.1"])
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_3ONLY)
    curl.setopt(pycurl.CAINFO, str(authority))
    curl.setopt(pycurl.BUFFERSIZE, 512 << 10)
    curl.setopt(pycurl.WRITEFUNCTION, verifier.take)
    used, begun = own_cpu_s(), time.perf_counter()
    curl.perform()
    seconds, used = time.perf_counter() - begun, own_cpu_s() - used
    if curl.getinfo(pycurl.RESPONSE_CODE) != 200 or verifier.count != length:
        raise ValueError(f"status {curl.getinfo(pycurl.RESPONSE_CODE)}, {verifier.count} of {length} bytes")
    pipe.send((seconds, used))


if __name__ == "__main__":
    print(run().as_table())
