"""python -m bench.h3_objects HOST PORT VERSION CA COUNT SIZE INTERVAL: fetch objects over one connection by curl.

VERSION is 2 or 3. All are asked for at once; or, with an INTERVAL in seconds, one by one at that distance, whether or
not others are complete, after a first one that is not counted. Prints one JSON object: seconds until the connection was
up, and of each object from its request until it was complete, the shortest first. Every byte is compared.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pycurl

from bench.quic_peers import BLOCK

TIMEOUT_S = 60
_VERSIONS = {"2": pycurl.CURL_HTTP_VERSION_2_0, "3": pycurl.CURL_HTTP_VERSION_3ONLY}


def content(number: int, size: int) -> bytes:
    """The bytes of an object."""
    return BLOCK[number * 64 : number * 64 + size]


class _Object:
    """One object on its way."""

    def __init__(self, number: int, size: int, url: str) -> None:
        self.curl: Any = pycurl.Curl()
        self.asked_at = time.perf_counter()
        self.done_at = 0.0
        self._data = b""
        self._expected = content(number, size)
        self.curl.setopt(pycurl.URL, url)
        self.curl.setopt(pycurl.PIPEWAIT, 1)
        self.curl.setopt(pycurl.TIMEOUT, TIMEOUT_S)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._take)

    def _take(self, data: bytes) -> None:
        self._data += data
        if len(self._data) == len(self._expected):
            self.done_at = time.perf_counter()

    @property
    def right(self) -> bool:
        """Whether all of it came, and nothing else."""
        return self.curl.getinfo(pycurl.RESPONSE_CODE) == 200 and self._data == self._expected


class _Fetching:
    """All objects over one connection."""

    def __init__(self, version: str, authority: str, host: str, port: int) -> None:
        self._version, self._authority, self._host, self._port = version, authority, host, port
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
        self._left = 0

    def ask(self, number: int, size: int) -> _Object:
        """Ask for an object."""
        one = _Object(number, size, f"https://localhost:{self._port}/{size}/{number}.bin")
        one.curl.setopt(pycurl.RESOLVE, [f"localhost:{self._port}:{self._host}"])
        one.curl.setopt(pycurl.HTTP_VERSION, _VERSIONS[self._version])
        one.curl.setopt(pycurl.CAINFO, self._authority)
        # A ClientHello that fits one datagram: of two, Caddy 2.6 often drops the second, and loses a timeout's time.
        one.curl.setopt(pycurl.SSL_EC_CURVES, "X25519")
        self._multi.add_handle(one.curl)
        self._left += 1
        return one

    def go_on(self, until: float) -> None:
        """Send and receive until then, or until there is nothing more to wait for."""
        while True:
            self._multi.perform()
            queued = 1
            while queued:
                queued, done, failed = self._multi.info_read()
                self._left -= len(done) + len(failed)
                if failed:
                    raise ValueError(f"curl: {failed[0][2]}")
            rest = until - time.perf_counter()
            if rest <= 0 or not self._left:
                return
            due_ms = self._multi.timeout()  # of curl's own timers, QUIC's among them: select does not know them
            self._multi.select(min(due_ms / 1000 if due_ms >= 0 else 1.0, rest))


def fetch(
    host: str, port: int, version: str, authority: str, count: int, size: int, interval_s: float
) -> dict[str, Any]:
    """Fetch them; `ValueError` if one is wrong or more than one connection was made."""
    fetching = _Fetching(version, authority, host, port)
    objects = [fetching.ask(0, size)]
    if interval_s:
        fetching.go_on(time.perf_counter() + TIMEOUT_S)
    begun = time.perf_counter()
    for number in range(1, count):
        at = begun + number * interval_s
        while time.perf_counter() < at:
            fetching.go_on(at)
            time.sleep(max(at - time.perf_counter(), 0))
        objects.append(fetching.ask(number, size))
    fetching.go_on(time.perf_counter() + TIMEOUT_S)
    if not all(each.right for each in objects):
        raise ValueError("an object is missing or wrong")
    if sum(each.curl.getinfo(pycurl.NUM_CONNECTS) for each in objects) != 1:
        raise ValueError("not one connection")
    counted = objects[1:] if interval_s else objects
    return {
        "connected": max(each.curl.getinfo(pycurl.APPCONNECT_TIME) for each in objects),
        "completed": sorted(each.done_at - each.asked_at for each in counted),
    }


def main() -> None:
    """See above."""
    host, port, version, authority, count, size, interval = sys.argv[1:]
    print(json.dumps(fetch(host, int(port), version, authority, int(count), int(size), float(interval))))


if __name__ == "__main__":
    main()
