"""Small requests over HTTP/3: how many a second from one core of the server, on one connection and on a hundred.

The generator (`gtlsclient`, see there) has the other core. That it is not the bottleneck is seen twice: in the shares
of their cores that server and generator used, and in ngtcp2's example server, with which it gets further than with any
other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.gtlsclient import Load, load
from bench.h3_servers import CADDY, FAIRWAY, HANDLER, HYPERCORN, NGTCP2, NotHereError, Server, Site
from bench.result import Result

SERVER_CORE, GENERATOR_CORE = 0, 1
ROUNDS = 3
CONNECTIONS = (1, 100)
REQUESTS = {  # on one connection; on each of a hundred
    FAIRWAY: (20_000, 600),
    HANDLER: (20_000, 600),
    CADDY: (40_000, 600),
    HYPERCORN: (3_000, 25),
    NGTCP2: (15_000, 600),  # it keeps every file open
}


def run() -> Result:
    """Medians of rounds that take the servers in turn."""
    result = Result("h3_requests")
    samples: dict[tuple[str, int], list[Load]] = {}
    missing: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory))
        for number in range(1, max(REQUESTS[NGTCP2])):
            (site.files / "r" / str(number)).hardlink_to(site.files / "r" / "0")
        for _ in range(ROUNDS):
            for at, connections in enumerate(CONNECTIONS):
                for who, requests in REQUESTS.items():
                    try:
                        with Server(who, site, cores=[SERVER_CORE], application=True) as server:
                            measured = load(server, connections, requests[at], GENERATOR_CORE)
                        samples.setdefault((who, connections), []).append(measured)
                    except (NotHereError, TimeoutError, ValueError) as error:
                        missing[f"{who}, {_of(connections)}: {error}"] = None
    for connections in CONNECTIONS:
        _report(result, connections, {who: loads for (who, of), loads in samples.items() if of == connections})
    result.notes += missing
    result.notes += [
        f"a body of 100 bytes, each compared; medians of {ROUNDS} rounds; the middle 80 % of the responses of each",
        f"the server on core {SERVER_CORE} (GOMAXPROCS=1, one worker), the generator gtlsclient, one process a"
        f" connection, on core {GENERATOR_CORE}; as many requests in flight as the server allows streams:"
        " 100 a connection by Caddy and ngtcp2, 128 by the others",
        "ngtcp2 is its example server, in C: the generator's ceiling is at least what it reaches with it",
        f"hypercorn gets {REQUESTS[HYPERCORN][1]} requests on each of 100 connections: of more, sent at once, it leaves"
        " some unanswered; what its socket cannot hold is sent again after a timeout, so its CPU is not all used:"
        " its CPU per request tells what it could do",
    ]
    return result


def _of(connections: int) -> str:
    return "1 connection" if connections == 1 else f"{connections} connections"


def _report(result: Result, connections: int, loads: dict[str, list[Load]]) -> None:
    of = _of(connections)
    for who, measured in loads.items():
        result.add(who, f"{of}: requests", [one.requests_per_s for one in measured], "1/s")
    for who, measured in loads.items():
        result.add(who, f"{of}: server CPU per request", [one.server_us for one in measured], "us")
    for who, measured in loads.items():
        result.add(who, f"{of}: server's core in use", [100 * one.server_share for one in measured], "%")
        result.add(who, f"{of}: generator's core in use", [100 * one.generator_share for one in measured], "%")
    others = [100 * one.others_share for measured in loads.values() for one in measured]
    result.add("everything else", f"{of}: CPU in use", others, "%")
    for what in (f"{of}: requests", f"{of}: server CPU per request"):
        for who in (FAIRWAY, HANDLER):
            for peer in (HYPERCORN, CADDY):
                result.compare(what, who, peer)


if __name__ == "__main__":
    print(run().as_table())
