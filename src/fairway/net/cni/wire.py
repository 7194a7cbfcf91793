"""What the shim and the agent say to each other, so that a shim can be written in any language.

Request: `NAME=VALUE` and a NUL for each variable that the runtime set (CNI_*, TRACEPARENT), one more NUL, then what the
runtime wrote to stdin; then the writing half of the connection is closed. Answer: a line with the exit code and the
number of bytes that follow, then those bytes, which are for stdout. A shim that gets fewer bytes was cut off.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

LONGEST_REQUEST = 4 << 20
"""Bytes. A runtime's configuration with a prevResult has a few thousand; GC's list 100 for each container."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the plugin."""

    environment: dict[str, str]
    stdin: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the plugin's process ends with."""

    exit_code: int
    stdout: bytes = b""


def encode_request(request: Request) -> bytes:
    """The bytes of a request."""
    variables = "".join(f"{name}={value}\0" for name, value in request.environment.items())
    return variables.encode(errors="surrogateescape") + b"\0" + request.stdin


def decode_request(data: bytes) -> Request:
    """A request from its bytes; ValueError if they are none."""
    environment = {}
    start = 0
    while (end := data.find(b"\0", start)) != start:
        if end < 0:
            raise ValueError("the variables do not end")
        name, separator, value = data[start:end].partition(b"=")
        if not separator:
            raise ValueError("a variable without '='")
        environment[name.decode(errors="replace")] = value.decode(errors="replace")
        start = end + 1
    return Request(environment, data[start + 1 :])


def encode_answer(answer: Answer) -> bytes:
    """The bytes of an answer."""
    return b"%d %d\n" % (answer.exit_code, len(answer.stdout)) + answer.stdout


def decode_answer(data: bytes) -> Answer:
    """An answer from its bytes; ValueError if it was cut off."""
    head, separator, body = data.partition(b"\n")
    exit_code, _, length = head.partition(b" ")
    if not separator or int(length) != len(body):
        raise ValueError("the answer was cut off")
    return Answer(int(exit_code), body)


def code_of(answer: Answer) -> int:
    """The code of an answer that is an error."""
    return int(json.loads(answer.stdout)["code"])


def message_of(answer: Answer) -> str:
    """What an answer that is an error says is wrong."""
    return str(json.loads(answer.stdout)["msg"])


def ask(path: Path, request: Request, timeout_s: float = 5.0) -> Answer:
    """What the agent at that socket answers, as a shim asks it; OSError or ValueError if it does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(encode_request(request))
        connection.shutdown(socket.SHUT_WR)
        data = bytearray()
        while piece := connection.recv(65536):
            data += piece
    return decode_answer(bytes(data))
