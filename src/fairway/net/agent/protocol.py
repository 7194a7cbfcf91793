"""What agent and clients say to each other: one JSON object a line over a Unix socket.

A request is {"id", "call", "arguments"}; it is answered by {"id", "result"} or {"id", "error"}, and before that by any
number of {"id", "progress": [done, total]}. The call "watch" is answered by {"id", "event"} for ever. Requests on one
connection are answered in their order, one at a time. Whoever is not root is not served.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairway.net.model import errors
from fairway.net.model.errors import FairwayError, KernelError, UsageError

VERSION = 1

DEFAULT_SOCKET = Path("/run/fairway/agent.sock")

LINE_MAX = 8 << 20
"""Bytes of a request: the policies of thousands of pods fit. Only root gets so far as to send one."""

Json = dict[str, Any]
Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""


class BusyError(FairwayError):
    """The agent has too much to do; the same request later may succeed."""


class AnswerError(FairwayError):
    """The agent, or what answers in its place, says what is no answer; or says nothing."""


_KINDS = {
    kind.__name__: kind
    for kind in (*vars(errors).values(), BusyError)
    if isinstance(kind, type) and issubclass(kind, FairwayError)
}


def encode(document: Json) -> bytes:
    """A line."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"  # in ASCII: a client may have sent half a pair


def decode_request(line: bytes) -> tuple[Any, str, Json]:
    """The number, call and arguments that a client's line has; a line that makes no sense is a UsageError."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError("a request is to be a JSON object in one line") from None
    if not isinstance(document, dict):
        raise UsageError("a request is to be a JSON object in one line")
    call, arguments = document.get("call"), document.get("arguments", {})
    if not isinstance(call, str) or not isinstance(arguments, dict):
        raise UsageError('a request is to have a "call", which is text, and "arguments", which are an object')
    number = document.get("id")
    return number if isinstance(number, int | str) else None, call, arguments


def error_document(error: FairwayError) -> Json:
    """An error, for the wire."""
    document: Json = {"kind": _kind(error), "message": error.message, "mend": error.mend}
    if isinstance(error, KernelError):
        document["errno"] = error.errno
    if isinstance(error, errors.ExhaustedError):
        document["pools"] = list(error.pools)
    return document


def read_error(document: Any) -> FairwayError:
    """The error that the wire tells, of the same class; one of a class that is not known here is a FairwayError."""
    if not isinstance(document, dict):
        return AnswerError("the agent's answer makes no sense")
    message, mend = str(document.get("message", "")), str(document.get("mend", ""))
    kind = _KINDS.get(str(document.get("kind")), FairwayError)
    if issubclass(kind, KernelError):
        return kind(message, int(document.get("errno", 0)), mend=mend)
    if issubclass(kind, errors.ExhaustedError):
        return kind(message, mend=mend, pools=tuple(map(str, document.get("pools", ()))))
    return kind(message, mend=mend)


def _kind(error: FairwayError) -> str:
    """The nearest class of the error that clients know."""
    return next(each.__name__ for each in type(error).__mro__ if each.__name__ in _KINDS)
