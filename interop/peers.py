"""Who is tried: how each is started as a client and as a server, which protocols it speaks, what it cannot do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from interop.endpoints.environment import PORT
from interop.network import PREFERRED4

FAIRWAY = "fairway"

_CADDYFILE = """
{{
  admin off
  auto_https off
  skip_install_trust
}}
https://:{port} {{
  tls {certs}/chain.pem {certs}/key.pem
  root * {www}
  file_server
}}
"""


@dataclass(frozen=True, slots=True)
class Task:
    """What a server is started for. `directory` is for its own files."""

    case: str
    www: Path
    certs: Path
    directory: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """A client, a server, or both; `cannot` says by case and role why it does not do it."""

    name: str
    what: str
    protocols: tuple[str, ...]
    client: tuple[str, ...] | None = None
    """The client's command; it is told the rest by its environment."""
    server: Callable[[Task], list[str]] | None = None
    client_cannot: Mapping[str, str] = field(default_factory=dict)
    server_cannot: Mapping[str, str] = field(default_factory=dict)

    def cannot(self, role: str, case: str) -> str | None:
        """Why it has no part in a case; None if it has."""
        if (self.client if role == "client" else self.server) is None:
            return f"{self.name} is no HTTP/3 {role}"
        return (self.client_cannot if role == "client" else self.server_cannot).get(case)


def _python(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *words)


def _caddy(task: Task) -> list[str]:
    file = task.directory / "Caddyfile"
    file.write_text(_CADDYFILE.format(port=PORT, certs=task.certs, www=task.www))
    return ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]


def _gtlsserver(task: Task) -> list[str]:
    options = ["-q", "--no-quic-dump", "--no-http-dump", "-d", str(task.www)]
    options += {
        "retry": ["-V"],
        "connectionmigration": [f"--preferred-ipv4-addr={PREFERRED4}:{PORT + 1}"],
    }.get(task.case, [])
    if task.case.startswith("handshake"):
        options += ["--handshake-timeout=60s"]
    return ["gtlsserver", *options, "*", str(PORT), str(task.certs / "key.pem"), str(task.certs / "chain.pem")]


_PREFERRED = "its library has no preferred address"
_NO_ECN = "its library does not mark packets"
_STAYS = "quic-go of Caddy 2.6 goes on sending to the client's old address, as the capture shows"
_DRAFT = "Debian's ngtcp2 0.12 offers a draft's version 2, 0x709a50c4, in a draft's transport parameter, 0xff73db"
_PYTHON_CANNOT = {"connectionmigration": _PREFERRED, "ecn": _NO_ECN}

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            FAIRWAY,
            "this Fairway",
            ("hq", "h3"),
            _python("interop.endpoints.fairway", "client"),
            lambda _: list(_python("interop.endpoints.fairway", "server")),
        ),
        Peer(
            "aioquic",
            "aioquic, from PyPI",
            ("hq", "h3"),
            _python("interop.endpoints.python_peers", "aioquic", "client"),
            lambda _: list(_python("interop.endpoints.python_peers", "aioquic", "server")),
            _PYTHON_CANNOT,
            _PYTHON_CANNOT,
        ),
        Peer(
            "qh3",
            "qh3, from PyPI",
            ("hq", "h3"),
            _python("interop.endpoints.python_peers", "qh3", "client"),
            lambda _: list(_python("interop.endpoints.python_peers", "qh3", "server")),
            _PYTHON_CANNOT,
            _PYTHON_CANNOT,
        ),
        Peer(
            "ngtcp2",
            "gtlsclient and gtlsserver of Debian's ngtcp2-client and ngtcp2-server",
            ("h3",),
            _python("interop.endpoints.ngtcp2_client"),
            _gtlsserver,
            {"v2": _DRAFT},
            {"v2": _DRAFT},
        ),
        Peer(
            "curl",
            "libcurl in the wheel of pycurl, on ngtcp2 and OpenSSL",
            ("h3",),
            _python("interop.endpoints.curl"),
            None,
            {
                "keyupdate": "curl has no option to change keys",
                "v2": "curl speaks version 1 only",
                "connectionmigration": "curl does not go to a preferred address",
                "ecn": "curl marks no packets",
            },
        ),
        Peer(
            "caddy",
            "Debian's Caddy, on quic-go",
            ("h3",),
            None,
            _caddy,
            {},
            {
                "retry": "Caddy has no setting that makes it send Retry",
                "v2": "Caddy's quic-go is not told to speak version 2",
                "connectionmigration": _PREFERRED,
                "ecn": _NO_ECN,
                "rebind-port": _STAYS,
                "rebind-addr": _STAYS,
            },
        ),
    )
}


_PACED = (
    "qh3 sends four requests, a packet each, and the next ones 18 to 32 ms later in captures, though its window has "
    "room; what has not left when the handshake is complete goes in 1-RTT"
)
_FIRST_WORD = (
    "qh3 takes the server's acknowledgement of half its ClientHello, in version 1 as RFC 9369 section 4.1 has it, for "
    "the choice of version 1: in the capture it goes on in it and answers nothing that comes in version 2"
)
_HELD_BACK = (
    "the congestion window of aioquic 1.7 holds back PATH_CHALLENGE, and not ACK (start_frame of its "
    "packet_builder.py): when it is full, the first packet on a new path is an acknowledgement"
)
_LATE = (
    "ngtcp2 0.12 asks a new path 13 to 100 ms after it came from there, in captures; what wants an acknowledgement "
    "meanwhile, a PING of ours, gets it first"
)
_TAKES_TURNS = (
    "qh3 2.1 has a probe timeout for 1-RTT packets before the handshake is complete, against RFC 9002 section 6.2.1, "
    "repeats the packets of one space each time, not of all (section 6.2.4), and waits twice as long for the next: "
    "a Handshake packet comes again 0.7, 3.3 and 14 s after the first time in captures, and no more before qh3 gives up"
)
_SILENT = (
    "qh3's client has no probe timeout once its Initial packets are acknowledged, against RFC 9002 section 6.2.2.1: a "
    "server that has sent three times what it got may say no more, and both wait"
)

KNOWN = {
    ("qh3", None, "retry"): "qh3 begins its packet numbers anew, against RFC 9000 section 17.2.5.3",
    ("qh3", None, "amplificationlimit"): "qh3 takes no chain of nine certificates for good",
    ("qh3", None, "zerortt"): _PACED,
    ("qh3", None, "handshakeloss"): _SILENT,
    ("qh3", None, "handshakecorruption"): _SILENT,
    ("qh3", None, "v2"): _FIRST_WORD,
    (None, "aioquic", "rebind-port"): _HELD_BACK,
    (None, "aioquic", "rebind-addr"): _HELD_BACK,
    (None, "qh3", "handshakeloss"): _TAKES_TURNS,
    (None, "qh3", "handshakecorruption"): _TAKES_TURNS,
    (None, "ngtcp2", "rebind-port"): _LATE,
    (None, "ngtcp2", "rebind-addr"): _LATE,
}
"""Failures that are a peer's: by client, server (None is any) and case."""


def known(client: str, server: str, case: str) -> str | None:
    """Whose fault a failure is, where that is known not to be Fairway's."""
    return KNOWN.get((client, None, case)) or KNOWN.get((None, server, case))


def protocol(case_protocol: str, client: Peer, server: Peer) -> str:
    """What both speak: the case's own protocol, else HTTP/3."""
    both = [name for name in client.protocols if name in server.protocols]
    return case_protocol if case_protocol in both else "h3"
