"""Deletions that were accepted while the agent was down: files, each with the request as a shim wrote it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from fairway.net.cni.codes import Code
from fairway.net.cni.wire import Answer, Request, code_of, decode_request

_LOG = logging.getLogger("fairway.agent.cni")  # said as the agent says its own
_HALF_WRITTEN = ".new"  # what a shim that was killed leaves; the runtime was not told that it was accepted
_BAD = ".bad"
_HOPELESS = (
    Code.INCOMPATIBLE_VERSION,
    Code.UNSUPPORTED_FIELD,
    Code.INVALID_ENVIRONMENT,
    Code.UNREADABLE,
    Code.UNDECODABLE,
    Code.INVALID_CONFIGURATION,
)
"""What is wrong with the request itself, and will be."""


def waiting_in(directory: Path) -> list[Path]:
    """The requests that wait in a journal, oldest first: their names begin with the time."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [directory / name for name in sorted(names) if not name.endswith((_HALF_WRITTEN, _BAD))]


class Pending:
    """The journal of one agent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def drain(self, do: Callable[[Request], Answer]) -> int:
        """Do what waits; returns how much was done. What fails waits on, unless no retry can help it."""
        done = 0
        for path in waiting_in(self.directory):
            try:
                request = decode_request(path.read_bytes())
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                _LOG.warning("the deletion noted in %s cannot be read, and is kept as %s: %s", path, _BAD, error)
                path.rename(path.with_name(path.name + _BAD))
                continue
            if request.environment.get("CNI_COMMAND") != "DEL":
                _LOG.warning("what is noted in %s is no deletion, and is kept as %s", path, _BAD)
                path.rename(path.with_name(path.name + _BAD))
                continue
            answer = do(request)
            if answer.exit_code and code_of(answer) in _HOPELESS:
                _LOG.warning("the deletion noted in %s is kept as %s: %s", path, _BAD, answer.stdout.decode())
                path.rename(path.with_name(path.name + _BAD))
                continue
            if answer.exit_code:
                _LOG.warning("the deletion noted in %s failed, and waits on: %s", path, answer.stdout.decode())
                continue
            path.unlink(missing_ok=True)
            done += 1
        return done
