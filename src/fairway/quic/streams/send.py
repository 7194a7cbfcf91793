"""The sending half of a stream (RFC 9000 section 3.1): what is written, sent, lost and acknowledged.

Data stays where the application put it, uncopied, until it is acknowledged; lost bytes go out again before new ones.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum
from typing import TYPE_CHECKING, Final

from fairway.quic.streams.flow_control import SendWindow
from fairway.wire import RangeSet

if TYPE_CHECKING:
    from fairway.quic.streams.schedule import Level


class SendState(Enum):
    """RFC 9000 section 3.1, figure 2."""

    READY = "Ready"
    SEND = "Send"
    DATA_SENT = "Data Sent"
    DATA_RECVD = "Data Recvd"
    RESET_SENT = "Reset Sent"
    RESET_RECVD = "Reset Recvd"

    __hash__ = object.__hash__  # there is one of each, and Enum's own costs more than the rest of a look-up


SEND_TRANSITIONS: dict[SendState, frozenset[SendState]] = {
    SendState.READY: frozenset({SendState.SEND, SendState.RESET_SENT}),
    SendState.SEND: frozenset({SendState.DATA_SENT, SendState.RESET_SENT}),
    SendState.DATA_SENT: frozenset({SendState.DATA_RECVD, SendState.RESET_SENT}),
    SendState.DATA_RECVD: frozenset(),
    SendState.RESET_SENT: frozenset({SendState.RESET_RECVD}),
    SendState.RESET_RECVD: frozenset(),
}
SEND_FINAL = frozenset({SendState.DATA_RECVD, SendState.RESET_RECVD})
_WRITING = frozenset({SendState.READY, SendState.SEND, SendState.DATA_SENT})


_NONE: Final = ()
"""What stands for a set of ranges until there are some: most streams never have any."""


_NO_STARTS: list[int] = []
_NO_CHUNKS: list[memoryview] = []
"""What all empty buffers share. Nothing is ever put into it."""


class SendBuffer:
    """Bytes by offset from `start` (all before it are acknowledged) to `end`, in the chunks they came in."""

    __slots__ = ("_acked", "_chunks", "_starts", "end", "lost", "sent", "start")

    def __init__(self) -> None:
        self.start = 0
        self.sent = 0
        """Everything before this offset has been sent once."""
        self.end = 0
        self.lost: RangeSet | tuple[()] = _NONE
        self._acked: RangeSet | tuple[()] = _NONE
        self._starts: list[int] = _NO_STARTS
        self._chunks: list[memoryview] = _NO_CHUNKS

    @property
    def unsent(self) -> int:
        """Bytes that were never sent."""
        return self.end - self.sent

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Add data at the end; `bytes` and views of them are kept, anything mutable is copied."""
        if not data:
            return
        view = memoryview(data)
        if not isinstance(view.obj, bytes):
            view = memoryview(bytes(view))
        if self._chunks:
            self._starts.append(self.end)
            self._chunks.append(view)
        else:
            self._starts, self._chunks = [self.end], [view]
        self.end += len(data)

    def peek(self, offset: int, length: int) -> memoryview | bytes:
        """The `length` bytes at `offset`, which are there."""
        at = bisect_right(self._starts, offset) - 1 if len(self._starts) > 1 else 0
        low = offset - self._starts[at]
        chunk = self._chunks[at]
        high = low + length
        if high <= len(chunk):
            return chunk[low:high]
        parts = [chunk[low:]]
        length -= len(parts[0])
        while length > 0:
            at += 1
            chunk = self._chunks[at][:length]
            parts.append(chunk)
            length -= len(chunk)
        return b"".join(parts)

    def acknowledged(self, start: int, stop: int) -> None:
        """The peer has the bytes from `start` to `stop`; forget those that no earlier byte holds back."""
        if self.lost:
            self.lost.remove(start, stop)
        if start > self.start:
            self._acked = self._acked or RangeSet()
            self._acked.add(start, stop)
            return
        if stop > self.start:
            self.start = stop
        while self._acked and self._acked[0][0] <= self.start:
            self.start = max(self.start, self._acked.pop_first()[1])
        keep = bisect_right(self._starts, self.start) - 1
        if self.start == self.end:
            keep = len(self._starts)
        if keep > 0:
            del self._starts[:keep], self._chunks[:keep]

    def declared_lost(self, start: int, stop: int) -> None:
        """The bytes from `start` to `stop` have to go out again, but for those acknowledged meanwhile."""
        start = max(start, self.start)
        lost = self.lost or RangeSet()
        if self._acked:
            lost.merge(self._acked.gaps(start, stop))
        else:
            lost.add(start, stop)
        self.lost = lost

    def truncate(self, stop: int) -> None:
        """Nothing from the offset `stop` on is to be sent, or sent again."""
        if self.lost:
            self.lost.remove(stop, max(self.end, stop))
        self.end = max(self.sent, stop)
        while self._starts and self._starts[-1] >= stop:
            self._starts.pop()
            self._chunks.pop()

    def clear(self) -> None:
        """Drop all data: the stream was reset, or all of it was acknowledged."""
        self._starts, self._chunks = _NO_STARTS, _NO_CHUNKS
        self.lost = _NONE


class SendStream:
    """What goes out on one stream, within the peer's window."""

    __slots__ = ("buffer", "fin", "fin_acked", "fin_lost", "fin_sent", "finished", "incremental", "level", "reliable",
                 "reset_acked", "reset_code", "starved", "state", "stream_id", "urgency", "window")  # fmt: skip

    def __init__(self, stream_id: int, window: SendWindow) -> None:
        self.stream_id = stream_id
        self.window = window
        self.state = SendState.READY
        self.finished = False
        """True in a terminal state."""
        self.buffer = SendBuffer()
        self.fin = False
        self.fin_sent = False
        self.fin_lost = False
        self.fin_acked = False
        self.reset_code: int | None = None
        self.reset_acked = False
        self.reliable = 0
        """Bytes that are delivered even if the stream is reset (draft-ietf-quic-reliable-stream-reset)."""
        self.starved = False
        """True if a `write` accepted less than it was given: the application waits for room."""
        self.urgency = 3  # RFC 9218 section 4.1: 0 is the most urgent, 7 the least
        self.incremental = True
        self.level: Level | None = None
        """Where in the schedule it waits for its turn, if it does."""

    @property
    def idle(self) -> bool:
        """True if there is nothing to send, whatever the windows."""
        buffer = self.buffer
        return buffer.sent == buffer.end and not buffer.lost and (self.fin_sent or not self.fin) and not self.fin_lost

    @property
    def writable(self) -> bool:
        """True if `write` is still allowed."""
        return self.state in _WRITING and not self.fin and self.reset_code is None

    @property
    def kept(self) -> int:
        """Bytes that were sent and are kept until they and all before them are acknowledged."""
        if self.state not in _WRITING:
            return 0
        buffer = self.buffer
        sent = buffer.sent if self.reset_code is None else min(buffer.sent, self.reliable)
        return max(sent - buffer.start, 0)

    @property
    def sending(self) -> bool:
        """True while bytes may have to be sent, be it only those that survive a reset."""
        return self.state in _WRITING

    def write(self, data: bytes | bytearray | memoryview, fin: bool) -> None:
        """Add data, and the stream's end if `fin`."""
        self.buffer.append(data)
        if fin:
            self.fin = True
        if self.state is SendState.READY:
            self._go(SendState.SEND)

    def next_range(self, credit: int) -> tuple[int, int, bool] | None:
        """Offset and length of the next bytes to send and whether they are new; (end, 0, new) for a bare FIN.

        `credit` is what the connection's flow control leaves for new bytes. None if nothing can be sent.
        """
        if self.state not in _WRITING:
            return None
        buffer = self.buffer
        if buffer.lost:
            start, stop = buffer.lost[0]
            return start, stop - start, False
        length = min(buffer.end, self.window.limit) - buffer.sent
        if length > credit:
            length = credit
        if length > 0:
            return buffer.sent, length, True
        if self.fin and buffer.sent == buffer.end and (not self.fin_sent or self.fin_lost):
            return buffer.end, 0, False
        return None

    def mark_sent(self, offset: int, length: int, new: bool) -> bool:
        """The bytes at `offset` are in packets now; True if the stream's end goes with them."""
        buffer = self.buffer
        stop = offset + length
        if new:
            buffer.sent = self.window.used = stop
        elif buffer.lost:
            buffer.lost.remove(offset, stop)
        fin = self.fin and stop == buffer.end
        if fin:
            self.fin_sent, self.fin_lost = True, False
            if self.state is SendState.SEND:
                self._go(SendState.DATA_SENT)
        return fin

    def acknowledged(self, start: int, stop: int, fin: bool) -> None:
        """The peer has these bytes (and the stream's end)."""
        if self.state not in _WRITING:
            return
        buffer = self.buffer
        if fin and start <= buffer.start and self.state is SendState.DATA_SENT:  # all that was left: short streams
            buffer.start = stop
            buffer.clear()
            self.fin_acked = True
            self._go(SendState.DATA_RECVD)
            return
        buffer.acknowledged(start, stop)
        if fin:
            self.fin_acked = True
        if self.fin_acked and self.buffer.start == self.buffer.end and self.state is SendState.DATA_SENT:
            self._go(SendState.DATA_RECVD)
        elif self.reset_code is not None:
            self._settle_reset()

    def declared_lost(self, start: int, stop: int, fin: bool) -> None:
        """These bytes (and the stream's end) have to go out again."""
        if self.state not in _WRITING:
            return
        if self.reset_code is not None:
            stop = min(stop, self.reliable)
            fin = False
        if start < stop:
            self.buffer.declared_lost(start, stop)
        if fin and not self.fin_acked:
            self.fin_lost = True

    def rewind(self) -> None:
        """Nothing of what was sent has arrived, nor will (0-RTT): all of it is to be sent as new."""
        self.buffer.sent = self.window.used = 0
        self.buffer.lost = _NONE
        self.fin_sent = self.fin_lost = False
        if self.reset_code is not None:
            self.buffer.end = self.reliable
        elif self.state is SendState.DATA_SENT:
            self.state = SendState.SEND

    def commit(self) -> None:
        """What was written so far is delivered even if the stream is reset."""
        if self.writable:
            self.reliable = self.buffer.end

    def reset(self, code: int, *, reliably: bool = False) -> int:
        """Give up sending, `reliably` all but what was committed; the final size that the reset carries.

        A reliable reset is to the stream's states what its end would be (the draft's section 5.3).
        """
        if self.state not in _WRITING or self.reset_code is not None:
            return max(self.buffer.sent, self.reliable)
        self.reset_code = code
        if reliably and self.reliable:
            self.buffer.truncate(self.reliable)
            self.fin = self.fin_lost = False
            if self.state is SendState.READY:
                self._go(SendState.SEND)
            if self.state is SendState.SEND:
                self._go(SendState.DATA_SENT)
        else:
            self.reliable = 0
            self._go(SendState.RESET_SENT)
            self.buffer.clear()
        return max(self.buffer.sent, self.reliable)

    def reset_acknowledged(self) -> None:
        """The peer has our RESET_STREAM or RESET_STREAM_AT."""
        self.reset_acked = True
        if self.state is SendState.RESET_SENT:
            self._go(SendState.RESET_RECVD)
        else:
            self._settle_reset()

    def _settle_reset(self) -> None:
        """A reliable reset is done once the peer has it and the bytes that it promises."""
        if self.reset_acked and self.buffer.start >= self.reliable and self.state is SendState.DATA_SENT:
            self._go(SendState.DATA_RECVD)
            self.buffer.clear()

    def _go(self, state: SendState) -> None:
        assert state in SEND_TRANSITIONS[self.state], (self.state, state)
        self.state = state
        self.finished = state in SEND_FINAL
