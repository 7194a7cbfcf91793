"""One line a request, whichever version of HTTP it came by."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from fairway.http.server.asgi import Application, Message, Receive, Scope, Send

_UNPRINTED = re.compile(r'[\x00-\x20"\x7f]')
"""What ends a field or a line, or is a command to a terminal: HTTP/2 over TCP lets it through."""

_NAMES = {"3": "h3", "2": "h2"}
_BEFORE_END = frozenset({"http.response.start", "http.response.early_hint", "http.response.trailers"})


def _to_stdout(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


class AccessLog:
    """An application around another that writes what was asked and answered, when the answer is complete.

    A line is like the common log format, its protocol and time in ms at the end; or, `as_json`, an object.
    """

    def __init__(
        self, application: Application, *, as_json: bool = False, write: Callable[[str], None] = _to_stdout
    ) -> None:
        self._application = application
        self._line = _json_line if as_json else _common_line
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        begun = time.perf_counter()
        status = count = 0
        written = False

        def write() -> None:
            nonlocal written
            if not written:
                written = True
                self._write(self._line(scope, status, count, (time.perf_counter() - begun) * 1e3))

        async def counted(message: Message) -> None:
            nonlocal status, count
            kind = message["type"]
            if kind.endswith("response.start"):
                status = message["status"]
            elif kind == "http.response.body":
                count += len(message.get("body", b""))
            elif kind == "http.response.zerocopysend":
                count += message.get("count") or 0
            elif kind == "websocket.accept":
                status = 200 if scope.get("http_version", "1.1") in _NAMES else 101
            elif kind == "websocket.close" and not status:
                status = 403
            elif kind == "websocket.send":
                count += len(message.get("text") or message.get("bytes") or b"")
            await send(message)
            if kind.startswith("http.response.") and kind not in _BEFORE_END and not message.get("more_body", False):
                write()  # what the application does afterwards is no part of the answer

        try:
            await self._application(scope, receive, counted)
        except Exception:
            status = status or 500
            raise
        finally:
            write()


def _protocol(scope: Scope) -> str:
    version = scope.get("http_version", "1.1")
    return _NAMES.get(version, f"http/{version}") + (" websocket" if scope["type"] == "websocket" else "")


def _target(scope: Scope) -> str:
    raw = scope.get("raw_path") or scope["path"].encode("utf-8")
    query = scope.get("query_string") or b""
    target = raw + b"?" + query if query else raw
    return _UNPRINTED.sub(lambda found: f"%{ord(found[0]):02X}", str(target.decode("ascii", "backslashreplace")))


def _common_line(scope: Scope, status: int, count: int, taken_ms: float) -> str:
    client = (scope.get("client") or ("-",))[0]
    when = time.strftime("%d/%b/%Y:%H:%M:%S %z")
    method = scope.get("method", "CONNECT")
    asked = f'"{method} {_target(scope)}"'
    return f"{client} - - [{when}] {asked} {status or '-'} {count} {_protocol(scope)} {taken_ms:.1f}ms\n"


def _json_line(scope: Scope, status: int, count: int, taken_ms: float) -> str:
    document: dict[str, Any] = {
        "time": time.time(),
        "client": (scope.get("client") or (None,))[0],
        "method": scope.get("method", "CONNECT"),
        "target": _target(scope),
        "protocol": _protocol(scope),
        "status": status or None,
        "bytes": count,
        "ms": round(taken_ms, 3),
    }
    return json.dumps(document) + "\n"
