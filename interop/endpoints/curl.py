"""curl as a client, by pycurl: `python -m interop.endpoints.curl`."""

from __future__ import annotations

import os
import socket
from typing import Any

import pycurl

from interop.endpoints.environment import PORT, Environment, environment, unsupported

CANNOT = {
    "keyupdate": "curl does not change keys by itself",
    "v2": "curl speaks version 1 only",
    "connectionmigration": "curl does not move to a preferred address",
}
AT_ONCE = 100


def _handle(asked: Environment, url: str, share: Any, file: Any) -> Any:
    handle = pycurl.Curl()
    options = {
        pycurl.URL: url,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_3ONLY,
        pycurl.CAINFO: str(asked.certs / "ca.pem"),
        pycurl.WRITEDATA: file,
        pycurl.SHARE: share,
        pycurl.PIPEWAIT: 1,
        pycurl.FAILONERROR: 1,
        pycurl.CONNECTTIMEOUT: 60,
        # Or it asks a name server, of which there is none, and waits for its answer.
        pycurl.RESOLVE: [f"{asked.host}:{PORT}:{socket.getaddrinfo(asked.host, PORT)[0][4][0]}"],
    }
    if asked.case == "chacha20":
        options[pycurl.TLS13_CIPHERS] = "TLS_CHACHA20_POLY1305_SHA256"
    if asked.case == "zerortt":
        options[pycurl.SSL_OPTIONS] = getattr(pycurl, "SSLOPT_EARLYDATA", 1 << 6)
    for option, value in options.items():
        handle.setopt(option, value)
    return handle


def _connection(asked: Environment, paths: tuple[str, ...], share: Any) -> None:
    """All of them over one connection."""
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
    multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, AT_ONCE)
    files = [asked.target(path).open("wb") for path in paths]
    urls = dict(zip(asked.paths, asked.requests, strict=True))
    waiting = [_handle(asked, urls[path], share, file) for path, file in zip(paths, files, strict=True)]
    waiting.reverse()
    running = 0
    while waiting or running:
        while waiting and running < AT_ONCE:
            multi.add_handle(waiting.pop())
            running += 1
        multi.perform()
        _, done, failed = multi.info_read(AT_ONCE)
        for handle in done:
            multi.remove_handle(handle)
            handle.close()
        running -= len(done)
        if failed:
            raise SystemExit(f"{failed[0][2]} ({failed[0][1]})")
        multi.select(0.05)
    for file in files:
        file.close()
    multi.close()


def main() -> None:
    """Do the environment's case."""
    asked = environment()
    if asked.case in CANNOT:
        unsupported(CANNOT[asked.case])
    assert os.environ["SSLKEYLOGFILE"]  # which libcurl's TLS library reads
    share = pycurl.CurlShare()
    share.setopt(pycurl.SH_SHARE, pycurl.LOCK_DATA_SSL_SESSION)
    for paths in asked.connections:
        _connection(asked, paths, share)


if __name__ == "__main__":
    main()
