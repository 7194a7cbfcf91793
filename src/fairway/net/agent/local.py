"""The calls without an agent: done by whoever asks, on a host opened for it."""

from __future__ import annotations

from typing import Protocol

from fairway.net.agent import calls
from fairway.net.agent.protocol import Json, Progress
from fairway.net.host import Host


class Caller(Protocol):
    """An agent's client, or what stands in for it."""

    def call(self, call: str, arguments: Json | None = None, progress: Progress | None = None) -> Json:
        """The document that answers; errors are FairwayErrors."""


class InProcess:
    """Does the calls on `host`, by the same code as the agent's."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def call(self, call: str, arguments: Json | None = None, progress: Progress | None = None) -> Json:
        """The document that answers."""
        return calls.do(self._host, call, arguments or {}, progress or _nobody, calls.CALLS).document


def _nobody(_: int, __: int) -> None:
    """Nobody wants to know how far it is."""
