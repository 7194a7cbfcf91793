"""python -m bench.h3_objects HOST PORT VERSION CA COUNT SIZE: fetch all objects at once over one connection by curl.

VERSION is 2 or 3. Prints one JSON object: seconds from the start until the connection was up, and until each object was
complete, in the order of completion. Every byte is compared.
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


def fetch(host: str, port: int, version: str, authority: str, count: int, size: int) -> dict[str, Any]:
    """Fetch them; `ValueError` if one is wrong or more than one connection was made."""
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
    multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
    objects = [_Object(number, size, f"https://localhost:{port}/{number}.bin") for number in range(count)]
    for each in objects:
        each.curl.setopt(pycurl.RESOLVE, [f"localhost:{port}:{host}"])
        each.curl.setopt(pycurl.HTTP_VERSION, _VERSIONS[version])
        each.curl.setopt(pycurl.CAINFO, authority)
        # A ClientHello that fits one datagram: of two, Caddy 2.6 often drops the second, and loses a timeout's time.
        each.curl.setopt(pycurl.SSL_EC_CURVES, "X25519")
    begun = time.perf_counter()
    for each in objects:
        multi.add_handle(each.curl)
    left = count
    while left:
        multi.perform()
        while True:
            queued, done, failed = multi.info_read()
            left -= len(done) + len(failed)
            if failed:
                raise ValueError(f"curl: {failed[0][2]}")
            if not queued:
                break
        if left:
            due_ms = multi.timeout()  # of curl's own timers, QUIC's among them: select does not know them
            multi.select(due_ms / 1000 if 0 <= due_ms < 1000 else 1.0)
    if not all(each.right for each in objects):
        raise ValueError("an object is wrong")
    if sum(each.curl.getinfo(pycurl.NUM_CONNECTS) for each in objects) != 1:
        raise ValueError("not one connection")
    return {
        "connected": max(each.curl.getinfo(pycurl.APPCONNECT_TIME) for each in objects),
        "completed": sorted(each.done_at - begun for each in objects),
    }


def main() -> None:
    """See above."""
    host, port, version, authority, count, size = sys.argv[1:]
    print(json.dumps(fetch(host, int(port), version, authority, int(count), int(size))))


if __name__ == "__main__":
    main()
