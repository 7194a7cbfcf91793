"""What can go wrong on a connection, and whose fault it is.

`PeerError` is the peer's fault: it ends the connection with the code, frame type and section it carries.
`UsageError` is the caller's fault: nothing reaches the wire. `ConnectionClosed` says how a connection ended.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple


class ErrorCode(IntEnum):
    """Transport error codes (RFC 9000 section 20.1)."""

    NO_ERROR = 0x00
    INTERNAL_ERROR = 0x01
    CONNECTION_REFUSED = 0x02
    FLOW_CONTROL_ERROR = 0x03
    STREAM_LIMIT_ERROR = 0x04
    STREAM_STATE_ERROR = 0x05
    FINAL_SIZE_ERROR = 0x06
    FRAME_ENCODING_ERROR = 0x07
    TRANSPORT_PARAMETER_ERROR = 0x08
    CONNECTION_ID_LIMIT_ERROR = 0x09
    PROTOCOL_VIOLATION = 0x0A
    INVALID_TOKEN = 0x0B
    APPLICATION_ERROR = 0x0C
    CRYPTO_BUFFER_EXCEEDED = 0x0D
    KEY_UPDATE_ERROR = 0x0E
    AEAD_LIMIT_REACHED = 0x0F
    NO_VIABLE_PATH = 0x10
    VERSION_NEGOTIATION_ERROR = 0x11  # RFC 9368 section 10.2
    CRYPTO_ERROR = 0x0100  # plus the TLS alert: 0x0100 to 0x01ff


def code_name(code: int, application: bool = False) -> str:
    """The name of an error code, for people: `FLOW_CONTROL_ERROR`, `CRYPTO_ERROR (alert 40)`, `0x10`."""
    if application:
        return f"application error {code:#x}"
    if 0x0100 <= code <= 0x01FF:
        return f"CRYPTO_ERROR (alert {code - 0x0100})"
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"transport error {code:#x}"


class PeerError(Exception):
    """The peer broke a rule. The connection closes with `code`, naming `frame_type`.

    `section` names the rule, for example "RFC 9000 section 4.1".
    """

    def __init__(self, code: int, reason: str, *, frame_type: int = 0, section: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.frame_type = frame_type
        self.section = section

    def __str__(self) -> str:
        where = f" [{self.section}]" if self.section else ""
        return f"{code_name(self.code)}: {self.reason}{where}"


def bad_encoding(frame_type: int, reason: str) -> PeerError:
    """The error for a frame that cannot be parsed."""
    return PeerError(ErrorCode.FRAME_ENCODING_ERROR, reason, frame_type=frame_type, section="RFC 9000 section 12.4")


class UsageError(Exception):
    """The caller asked for what the connection's or the stream's state does not allow."""


class StreamReset(Exception):  # noqa: N818 - an outcome, not always an error
    """The peer reset the stream (RESET_STREAM), or asked that we stop sending on it (STOP_SENDING)."""

    def __init__(self, stream_id: int, code: int, *, stopped: bool = False) -> None:
        what = "asked us to stop sending on" if stopped else "reset"
        super().__init__(f"the peer {what} stream {stream_id} with code {code:#x}")
        self.stream_id = stream_id
        self.code = code
        self.stopped = stopped


def _printable(text: str) -> str:
    """A peer's words for people: nothing in them moves a terminal's cursor or begins a line of a log."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class ClosedBy(Enum):
    """Who ended the connection, and how."""

    LOCAL = "this endpoint"
    PEER = "the peer"
    IDLE = "the idle timeout"
    RESET = "a stateless reset"
    VERSION = "version negotiation"
    HANDSHAKE_TIMEOUT = "the handshake timeout"
    TRANSPORT = "the network"


class Closing(NamedTuple):
    """How a connection ended: by whom, with which code, in which frame, for which reason."""

    by: ClosedBy
    code: int = 0
    reason: str = ""
    frame_type: int = 0
    application: bool = False

    @property
    def clean(self) -> bool:
        """True if the connection ended without an error."""
        return self.by in (ClosedBy.LOCAL, ClosedBy.PEER) and self.code == 0

    def __str__(self) -> str:
        reason = f": {_printable(self.reason)}" if self.reason else ""
        if self.by not in (ClosedBy.LOCAL, ClosedBy.PEER):
            return f"closed by {self.by.value}{reason}"
        frame = f" in frame {self.frame_type:#x}" if self.frame_type else ""
        return f"closed by {self.by.value} with {code_name(self.code, self.application)}{frame}{reason}"


class ConnectionClosed(Exception):  # noqa: N818 - an outcome, not always an error
    """Raised to the caller who uses a connection that has ended."""

    def __init__(self, closing: Closing) -> None:
        super().__init__(str(closing))
        self.closing = closing

    @property
    def code(self) -> int:
        """The error code that ended the connection."""
        return self.closing.code

    @property
    def reason(self) -> str:
        """The reason phrase."""
        return self.closing.reason
