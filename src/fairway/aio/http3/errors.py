"""How a request can fail while its connection goes on."""

from __future__ import annotations

from fairway.http3 import H3Code, code_name
from fairway.http3.webtransport import from_http_code


class RequestError(Exception):
    """A request or its response was given up, by the peer or because the peer's message was malformed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code_name(code)})")
        self.code = code
        self.reason = reason

    @property
    def application_code(self) -> int | None:
        """The code that the application at the other end of a WebTransport stream gave; None if no application did."""
        return from_http_code(self.code)

    @property
    def retryable(self) -> bool:
        """True if the server has certainly not processed the request (RFC 9114 section 4.1.1)."""
        return self.code == H3Code.H3_REQUEST_REJECTED
