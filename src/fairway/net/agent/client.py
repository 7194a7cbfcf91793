"""Calling an agent: synchronous, a connection for as long as it is used."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairway.net.agent import protocol
from fairway.net.agent.protocol import DEFAULT_SOCKET, AnswerError, Json, Progress

_CONNECT_S = 5.0
_ANSWER_S = 180.0


def socket_path() -> Path:
    """Where this host's agent listens: FAIRWAY_SOCKET, or where it does by itself."""
    return Path(os.environ.get("FAIRWAY_SOCKET", DEFAULT_SOCKET))


class Client:
    """A connection to the agent at `path`. OSError: there is none."""

    def __init__(self, path: Path, timeout_s: float = _ANSWER_S) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_CONNECT_S)
            self._socket.connect(str(path))
            self._socket.settimeout(timeout_s)
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")
        self._number = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._socket.close()

    def call(self, call: str, arguments: Json | None = None, progress: Progress | None = None) -> Json:
        """What the agent answers; its errors are raised here, of the same class."""
        self._send(call, arguments or {})
        while True:
            message = self._receive()
            if "progress" in message:
                if progress is not None:
                    progress(*message["progress"])
                continue
            if "error" in message:
                raise protocol.read_error(message["error"])
            result = message.get("result")
            if not isinstance(result, dict):
                raise AnswerError("the agent's answer makes no sense")
            return result

    def watch(self) -> Iterator[Json]:
        """What happens on the host from now on, until the agent ends."""
        self._send("watch", {})
        self._socket.settimeout(None)
        while True:
            message = self._receive(ending=True)
            if not message:
                return
            if "error" in message:
                raise protocol.read_error(message["error"])
            yield message["event"]

    def _send(self, call: str, arguments: Json) -> None:
        self._number += 1
        try:
            self._socket.sendall(protocol.encode({"id": self._number, "call": call, "arguments": arguments}))
        except BrokenPipeError:
            pass  # it has let go; why, it may have said before
        except OSError as error:
            raise _gone(error.strerror or str(error)) from None

    def _receive(self, *, ending: bool = False) -> dict[str, Any]:
        try:
            line = self._file.readline()
        except TimeoutError:
            raise _gone("it does not answer") from None
        except OSError as error:
            raise _gone(error.strerror or str(error)) from None
        if not line and ending:
            return {}
        if not line.endswith(b"\n"):
            raise _gone("it ended before it answered")
        try:
            message = json.loads(line)
        except ValueError:
            raise AnswerError("the agent's answer makes no sense") from None
        if not isinstance(message, dict) or message.get("id") not in (self._number, None):
            raise AnswerError("the agent's answer makes no sense")
        return message


def _gone(why: str) -> AnswerError:
    return AnswerError(
        f"the agent: {why}", mend="what was asked for may be done or not; look, and ask again: journalctl -u fairway"
    )
