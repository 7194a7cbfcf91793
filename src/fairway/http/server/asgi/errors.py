"""What an application and its server tell each other by exceptions."""

from __future__ import annotations


class ClientDisconnectedError(OSError):
    """Raised by `send` once nobody reads any more (ASGI HTTP 2.4, "Disconnected Client")."""


class ProtocolMisuseError(RuntimeError):
    """The application broke the ASGI protocol: the message says what it sent and what was due."""


class LifespanError(Exception):
    """The application said that it cannot start, or that it failed to stop."""
