"""python -m bench.h3_objects_fairway HOST PORT 3 CA COUNT SIZE INTERVAL: as `h3_objects`, by Fairway's client."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from cryptography import x509

from bench.h3_objects import TIMEOUT_S, content
from fairway.aio.http3 import ClientConnection, connect


class _Fetching:
    """All objects over one connection."""

    def __init__(self, connection: ClientConnection, authority: str, size: int) -> None:
        self._connection = connection
        self._authority = authority
        self._size = size

    async def one(self, number: int, counted_from: float) -> float:
        """Seconds from then until the object was complete; `ValueError` if it is wrong."""
        stream = await self._connection.request("GET", self._authority, f"/{self._size}/{number}.bin")
        data = await stream.receive_all()
        taken = time.perf_counter() - counted_from
        if stream.status != 200 or data != content(number, self._size):
            raise ValueError("an object is missing or wrong")
        return taken

    async def at(self, number: int, when: float) -> float:
        """The same, asked for and counted from then."""
        await asyncio.sleep(when - time.perf_counter())
        return await self.one(number, when)


async def fetch(
    host: str, port: int, certificate: x509.Certificate, count: int, size: int, interval_s: float
) -> dict[str, Any]:
    """Fetch them; `ValueError` if one is wrong."""
    begun = time.perf_counter()
    async with connect(host, port, server_name="localhost", ca=[certificate]) as connection:
        connected = time.perf_counter() - begun
        fetching = _Fetching(connection, f"localhost:{port}", size)
        if interval_s:
            await fetching.one(0, begun)
            start = time.perf_counter()
            coming = [fetching.at(number, start + number * interval_s) for number in range(1, count)]
        else:
            coming = [fetching.one(number, begun) for number in range(count)]
        async with asyncio.timeout(TIMEOUT_S):
            times = await asyncio.gather(*coming)
    return {"connected": connected, "completed": sorted(times)}


def main() -> None:
    """See above."""
    host, port, _, authority, count, size, interval = sys.argv[1:]
    certificate = x509.load_pem_x509_certificate(Path(authority).read_bytes())
    print(json.dumps(asyncio.run(fetch(host, int(port), certificate, int(count), int(size), float(interval)))))


if __name__ == "__main__":
    main()
