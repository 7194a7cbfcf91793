"""HTTP/3 for programs that ask: a pool of connections, requests over it, and a transport for httpx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairway.http.client.alt_svc import Alternative, AltSvcCache
from fairway.http.client.dialing import dialer
from fairway.http.client.exchange import Exchange, StepTimeout, Timeouts, send
from fairway.http.client.pool import Lease, Pool, Target

if TYPE_CHECKING:
    from fairway.http.client.transport import Http3Transport

__all__ = [
    "AltSvcCache",
    "Alternative",
    "Exchange",
    "Http3Transport",
    "Lease",
    "Pool",
    "StepTimeout",
    "Target",
    "Timeouts",
    "dialer",
    "send",
]


def __getattr__(name: str) -> Any:
    """`Http3Transport`, which needs httpx, is imported when it is asked for."""
    if name != "Http3Transport":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from fairway.http.client.transport import Http3Transport
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ImportError("Http3Transport needs httpx: pip install 'fairway[httpx]'", name="httpx") from error
    return Http3Transport
