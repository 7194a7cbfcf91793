"""WebSocket messages (RFC 6455 sections 5 to 7) without I/O: bytes in and out, on wsproto's frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from fairway.http.server.asgi.limits import WEBSOCKET_FEED

_UNSENDABLE = frozenset({1004, 1005, 1006, 1015})
"""Codes that say what no frame may say (RFC 6455 section 7.4.1)."""


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message."""

    payload: str | bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with a pong."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer closed or broke the protocol; `answer` is the code to close with, `told` what the application hears."""

    told: int
    reason: str
    answer: int


Event = Received | Ping | Closed


class Messages:
    """A server's side of one WebSocket. A message may have `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames = FrameProtocol(client=False, extensions=[])
        self._gathered = bytearray()
        self._size = 0
        self._compressed = False

    def negotiate(self, offers: Iterable[bytes]) -> bytes:
        """Agree to permessage-deflate (RFC 7692) if it is offered; the value of the response's field."""
        for offer in b",".join(offers).decode("latin-1").split(","):
            if offer.split(";")[0].strip() != PerMessageDeflate.name:
                continue
            extension = PerMessageDeflate()
            try:
                accepted = extension.accept(offer)
            except ValueError:
                continue  # parameters that are no numbers, or out of range
            if isinstance(accepted, str):
                self._frames = FrameProtocol(client=False, extensions=[extension])
                self._compressed = True
                return "; ".join(filter(None, (PerMessageDeflate.name, accepted))).encode("ascii")
        return b""

    def receive(self, data: bytes) -> Iterator[Event]:
        """What bytes from the client bring; nothing after `Closed`."""
        step = WEBSOCKET_FEED if self._compressed else len(data)
        try:
            for at in range(0, len(data), step):
                self._frames.receive_bytes(data[at : at + step])
                for frame in self._frames.received_frames():
                    event = self._frame(frame)
                    if event is not None:
                        yield event
                        if isinstance(event, Closed):
                            return
        except ParseFailed as error:
            yield Closed(int(error.code), str(error), int(error.code))

    def _frame(self, frame: Frame) -> Event | None:
        payload: Any = frame.payload
        if frame.opcode is Opcode.PING:
            return Ping(bytes(payload))
        if frame.opcode is Opcode.CLOSE:
            code, reason = payload
            answer = 1000 if code == CloseReason.NO_STATUS_RCVD else int(code)
            return Closed(int(code), reason or "", answer)
        if frame.opcode is Opcode.PONG:
            return None
        self._size += len(payload)
        if self._size > self._limit:
            return Closed(CloseReason.MESSAGE_TOO_BIG, "the message is too big", CloseReason.MESSAGE_TOO_BIG)
        text = isinstance(payload, str)
        if frame.message_finished and self._size == len(payload):
            self._size = 0
            return Received(payload if text else bytes(payload))
        self._gathered += payload.encode() if text else payload  # fragments in a list would take far more
        if not frame.message_finished:
            return None
        whole, self._gathered, self._size = bytes(self._gathered), bytearray(), 0
        return Received(whole.decode() if text else whole)

    def send(self, payload: str | bytes) -> bytes:
        """A message."""
        return bytes(self._frames.send_data(payload))

    def ping(self) -> bytes:
        """A ping."""
        return bytes(self._frames.ping())

    def pong(self, payload: bytes) -> bytes:
        """The answer to a ping."""
        return bytes(self._frames.pong(payload))

    def close(self, code: int, reason: str) -> bytes:
        """A close frame; `ValueError` for a code that no frame may carry."""
        if not 1000 <= code <= 4999 or code in _UNSENDABLE:
            raise ValueError(f"{code} is no code to close a WebSocket with")
        return bytes(self._frames.close(code, reason or None))
