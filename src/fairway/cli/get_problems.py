"""What goes wrong with a fetch, for people: what happened where, what mends it, and curl's exit code for it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from fairway.aio import ClosedBy, ConnectionClosed
from fairway.aio.http3 import RequestError
from fairway.http.client.decoding import DecodingError
from fairway.http.client.download import RedirectError, StatusError
from fairway.http.client.exchange import StepTimeout
from fairway.http.client.saving import SavingError
from fairway.http.client.url import Url
from fairway.http3 import H3Code
from fairway.quic import UsageError
from fairway.tls import AlertDescription

NO_NAME, NO_CONNECTION, HTTP_ERROR, NOT_WRITTEN, TIMED_OUT, TLS, REDIRECTS, CUT_OFF, NOT_TRUSTED, CODING = (
    6,
    7,
    22,
    23,
    28,
    35,
    47,
    56,
    60,
    61,
)

_CERTIFICATE_ALERTS = frozenset(
    {
        AlertDescription.BAD_CERTIFICATE,
        AlertDescription.UNSUPPORTED_CERTIFICATE,
        AlertDescription.CERTIFICATE_REVOKED,
        AlertDescription.CERTIFICATE_EXPIRED,
        AlertDescription.CERTIFICATE_UNKNOWN,
        AlertDescription.UNKNOWN_CA,
    }
)
_UDP = (
    "is UDP blocked on the way, and does the server speak HTTP/3? over TCP: "
    "curl -I {url} (a field alt-svc with h3 says so)"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure as it is told."""

    message: str
    mend: str
    exit_code: int


def of(error: BaseException, url: Url, *, connected: bool) -> Problem | None:
    """What an exception of `fetch` means; None for one that nobody expects."""
    if isinstance(error, socket.gaierror):
        return Problem(
            f"the name {url.host} is not known ({error.strerror})",
            f"look at its spelling, or say the address: --resolve {url.host}:{url.port}:ADDRESS",
            NO_NAME,
        )
    if isinstance(error, ConnectionClosed):
        return _closed(error, url, connected)
    if isinstance(error, TimeoutError):
        return _timeout(error, url, connected)
    if isinstance(error, RequestError):
        return _request(error, url)
    for kind, code, mend in _PLAIN:
        if isinstance(error, kind):
            return Problem(str(error), mend.format(url=url), code)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else f"UDP port {url.port} of {url.host}: "
        return Problem(f"{where}{error.strerror or error}", "", NO_CONNECTION)
    return None


_PLAIN: tuple[tuple[type[Exception], int, str], ...] = (
    (StatusError, HTTP_ERROR, "without --fail, what the server says of it is saved"),
    (SavingError, NOT_WRITTEN, ""),
    (RedirectError, REDIRECTS, "look where it leads: fairway get -I {url}"),
    (DecodingError, CODING, "take it as it comes, without --compressed"),
    (UsageError, 2, ""),
)


def _timeout(error: TimeoutError, url: Url, connected: bool) -> Problem:
    if not connected:
        limit = f" {error}" if isinstance(error, StepTimeout) else ""
        return Problem(
            f"no HTTP/3 answer on UDP port {url.port} of {url.host}{':' if limit else ''}{limit}",
            _UDP.format(url=url),
            TIMED_OUT,
        )
    return Problem(f"{url.host} took too long: {str(error) or 'the time of --max-time is over'}", "", TIMED_OUT)


def _request(error: RequestError, url: Url) -> Problem:
    if error.code == H3Code.H3_VERSION_FALLBACK:
        return Problem(f"{url.host} wants this over HTTP/1.1", f"curl --http1.1 {url}", CUT_OFF)
    return Problem(f"{url.host}: {error}", "", CUT_OFF)


def _closed(error: ConnectionClosed, url: Url, connected: bool) -> Problem:
    closing = error.closing
    alert = closing.code - 0x0100 if not closing.application and 0x0100 <= closing.code <= 0x01FF else None
    if connected:
        mend = "the server was restarted, or the network changed: try again" if closing.by is ClosedBy.RESET else ""
        return Problem(f"the connection to {url.host} ended: {error}", mend, CUT_OFF)
    if closing.by in (ClosedBy.HANDSHAKE_TIMEOUT, ClosedBy.IDLE):
        return Problem(f"no HTTP/3 answer on UDP port {url.port} of {url.host}", _UDP.format(url=url), TIMED_OUT)
    if closing.by is ClosedBy.TRANSPORT:
        return Problem(
            f"nothing answers on UDP port {url.port} of {url.host}: {closing.reason}",
            f"does the server speak HTTP/3? over TCP: curl -I {url}",
            NO_CONNECTION,
        )
    if closing.by is ClosedBy.LOCAL and alert in _CERTIFICATE_ALERTS:
        return Problem(
            f"the certificate of {url.host} is not trusted: {closing.reason}",
            "--ca FILE names the authority's certificate; --insecure looks at none",
            NOT_TRUSTED,
        )
    if alert == AlertDescription.NO_APPLICATION_PROTOCOL:
        return Problem(f"{url.host} speaks QUIC on UDP port {url.port}, but not HTTP/3", "", TLS)
    if alert is not None:
        mend = "the server may want a certificate: --cert FILE --key FILE" if closing.by is ClosedBy.PEER else ""
        return Problem(f"{url.host}: no TLS: {error}", mend, TLS)
    return Problem(f"{url.host}, UDP port {url.port}: {error}", "", NO_CONNECTION)
