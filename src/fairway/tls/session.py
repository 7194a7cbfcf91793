"""A session: bytes in order come in by level, whole messages go to the state, events come out."""

from __future__ import annotations

from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.events import Event, Level
from fairway.tls.handshake import Handshake, State
from fairway.tls.messages import HandshakeType
from fairway.wire import WireError

_HEADER_LENGTH = 4  # RFC 8446 section 4: a type and a length of three bytes
_from_bytes = int.from_bytes
_NAMES = {kind.value: kind.name.lower() for kind in HandshakeType}


class Session:
    """One side of one handshake. After a `TlsAlert` it is dead and raises the same again."""

    __slots__ = ("_failure", "_handshake", "_needed", "_partial", "_state")

    def __init__(self, handshake: Handshake, state: State) -> None:
        self._handshake = handshake
        self._state = state
        self._partial = bytearray()
        self._needed = 0
        self._failure: TlsAlert | None = None

    def receive(self, level: Level, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take the next bytes of `level`'s CRYPTO stream; what follows from them. `TlsAlert` is the peer's fault."""
        if self._failure is not None:
            raise self._failure
        try:
            self._take(level, bytes(data))
        except TlsAlert as alert:
            self._failure = alert
            raise
        except WireError as error:
            self._failure = TlsAlert(AlertDescription.DECODE_ERROR, str(error), "RFC 8446 section 4")
            raise self._failure from None
        return self._drain()

    def _drain(self) -> list[Event]:
        events = self._handshake.events
        self._handshake.events = []
        return events

    def _take(self, level: Level, data: bytes) -> None:
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed and level == self._state.level:
                return
            data = bytes(self._partial)
            self._partial.clear()
        offset, end = 0, len(data)
        while offset < end:
            state = self._state
            if level is not state.level:
                raise TlsAlert(
                    AlertDescription.UNEXPECTED_MESSAGE,
                    f"a message came at level {level}, expected at {state.level}",
                    "RFC 9001 section 4.1.3",
                )
            body = offset + _HEADER_LENGTH
            length = _from_bytes(data[offset + 1 : body], "big") if body <= end else 0  # 0 while it is unknown
            if length > state.accepts.get(data[offset], -1):
                raise _refusal(state, data[offset], length)
            after = body + length
            if after > end:
                self._partial += data[offset:]
                self._needed = after - offset
                return
            self._state = state.handle(data[offset], data[body:after], data[offset:after])
            offset = after


def _refusal(state: State, kind: int, length: int) -> TlsAlert:
    """The alert for a message that `state` does not take, or not with so many bytes."""
    limit = state.accepts.get(kind)
    if limit is None:
        return TlsAlert(
            AlertDescription.UNEXPECTED_MESSAGE,
            f"message {_NAMES.get(kind, kind)} is not expected in {type(state).__name__}",
            "RFC 8446 section 4",
        )
    return TlsAlert(
        AlertDescription.DECODE_ERROR,
        f"message {_NAMES[kind]} has {length} bytes, more than {limit}",
        "fairway.tls.limits",
    )
