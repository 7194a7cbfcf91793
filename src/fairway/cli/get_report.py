"""What `fairway get` says of a transfer: the head of a response, and the JSON document."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from fairway.cli.quic_version import version_name
from fairway.http.client.download import Result
from fairway.http.client.saving import PartFile
from fairway.tls import CipherSuite

if TYPE_CHECKING:
    from fairway.cli.get import Transfer

EXAMPLES = """\b
Examples:
  fairway get https://example.com/
  fairway get -O -C https://example.com/big.iso
  fairway get -o pictures/ https://example.com/a.png https://example.com/b.png
  fairway get --data @report.json -H 'content-type: application/json' https://example.com/reports
  fairway get -L --json https://example.com/
  fairway get --resume https://example.com/
"""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def _text(value: bytes) -> str:
    """A field's value for a terminal: no control character, so no escape sequence, gets there."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value.decode("utf-8", "backslashreplace"))


def head(result: Result) -> str:
    """Status and fields as lines, with an empty one at the end."""
    exchange = result.exchange
    assert exchange is not None
    lines = [f"HTTP/3 {exchange.status}", *(f"{_text(name)}: {_text(value)}" for name, value in exchange.fields)]
    return "\n".join(lines) + "\n"


def place(transfer: Transfer) -> str:
    """Where the body is."""
    return str(transfer.saving.path) if isinstance(transfer.saving, PartFile) else "-"


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def document(transfer: Transfer, resolved: dict[tuple[str, int], float]) -> dict[str, Any]:
    """What a program wants to know of one transfer."""
    result, problem = transfer.result, transfer.problem
    exchange, times, url = result.exchange, result.times, result.ask.url
    resolve = None if times.connected_to is None else resolved.get(times.connected_to)
    said: dict[str, Any] = {
        "url": transfer.given,
        "final_url": str(url),
        "redirects": result.redirects,
        "status": None,
        "file": str(transfer.saving.path) if isinstance(transfer.saving, PartFile) else None,
        "bytes_received": result.received,
        "bytes_saved": result.saved,
        "resumed_from": result.resumed_from,
        "sha256": result.digest or None,
        "times": {
            "resolve_ms": _milliseconds(resolve),
            "connect_ms": _milliseconds(None if times.connecting is None else times.connecting - (resolve or 0.0)),
            "first_byte_ms": _milliseconds(times.first_byte),
            "total_ms": _milliseconds(times.total),
        },
        "connection": {"reused": result.reused},
        "error": None,
    }
    if exchange is not None:
        said["status"] = exchange.status
        said["http_version"] = "HTTP/3"
        said["fields"] = [[_text(name), _text(value)] for name, value in exchange.fields]
        said["trailers"] = [[_text(name), _text(value)] for name, value in exchange.trailers]
        said["informational"] = [
            [[_text(name), _text(value)] for name, value in fields] for fields in exchange.stream.informational
        ]
        said["connection"] |= _connection(exchange.connection)
        said["early"] = exchange.early and exchange.connection.early is True
    if problem is not None:
        said["error"] = {
            "message": problem.message,
            "mend": problem.mend,
            "exit_code": problem.exit_code,
            "remains": transfer.remains,
        }
    return said


def sessions(results: list[Result]) -> list[str]:
    """A line for each connection: whether its session was resumed, and what became of early data."""
    lines = {}
    for result in results:
        if result.exchange is not None:
            connection = result.exchange.connection
            said = _session(connection)
            figures = connection.statistics()
            early = {
                None: "nothing was sent early",
                True: f"{figures['early_bytes_sent']} bytes were sent early, and accepted",
                False: f"{figures['early_bytes_sent']} bytes were sent early, rejected, and sent again",
            }[said["early"]]
            what = "resumed" if said["resumed"] else "a new session"
            lines[id(connection)] = f"{result.ask.url.authority}: {what}; {early}"
    return list(lines.values())


def _session(connection: Any) -> dict[str, Any]:
    handshake = connection.handshake
    early = connection.early if connection.statistics()["early_bytes_sent"] else None
    return {"resumed": handshake is not None and handshake.resumed, "early": early}


def _connection(connection: Any) -> dict[str, Any]:
    address, handshake = connection.peer_address, connection.handshake
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    cipher = f"{handshake.cipher_suite:#06x}"
    with contextlib.suppress(ValueError):
        cipher = CipherSuite(handshake.cipher_suite).name
    version = version_name(handshake.version)
    agreed = {"alpn": handshake.alpn, "cipher": cipher, "quic_version": version}
    return {"address": f"{host}:{address[1]}", **agreed, **_session(connection)}
