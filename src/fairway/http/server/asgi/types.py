"""The types of ASGI 3, and the versions of it that are spoken here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

WEB_VERSION = {"version": "3.0", "spec_version": "2.4"}
"""`asgi` of requests and WebSockets: 2.4 is the first where `send` raises `OSError` once the client has gone."""

LIFESPAN_VERSION = {"version": "3.0", "spec_version": "2.0"}
