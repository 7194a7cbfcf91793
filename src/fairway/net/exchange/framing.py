"""A stream's bytes, cut into messages. Nothing longer than one message is ever kept."""

from __future__ import annotations

from fairway.net.exchange import limits
from fairway.net.exchange.errors import PeerFault
from fairway.net.exchange.messages import Channel, Message, decode
from fairway.wire import WireError
from fairway.wire.varint import decode_varint


class Framer:
    """One incoming stream: its channel, then its messages."""

    __slots__ = ("_data", "channel", "unknown")

    def __init__(self) -> None:
        self._data = b""
        self.channel: Channel | None = None
        """What the stream is for, once its first byte is there."""
        self.unknown = 0
        """Messages of types that this version does not know."""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes; `PeerFault` where they are none."""
        data = self._data + data
        at = 0
        if self.channel is None and data:
            try:
                self.channel = Channel(data[0])
            except ValueError:
                raise PeerFault(f"a stream of the unknown kind {data[0]:#x}") from None
            at = 1
        messages: list[Message] = []
        while self.channel is not None and at + 1 < len(data):
            number = data[at]
            try:
                length, start = decode_varint(data, at + 1)
            except WireError:
                break
            if length > limits.MAX_MESSAGE_BYTES:
                raise PeerFault(f"a message of {length} bytes; at most {limits.MAX_MESSAGE_BYTES} are taken")
            if start + length > len(data):
                break
            message = decode(self.channel, number, data[start : start + length])
            if message is None:
                self.unknown += 1
            else:
                messages.append(message)
            at = start + length
        self._data = data[at:]
        return messages
