"""The receiving half of a stream (RFC 9000 section 3.2), and the assembly of ordered bytes from pieces.

Bytes that arrive in order are handed on as they are; only what arrives past a gap is kept in a sorted map.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum

from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.limits import FRAGMENT_BYTES, MAX_STREAM_FRAGMENTS
from fairway.quic.streams.flow_control import ReceiveWindow

_NO_STARTS: list[int] = []
_NO_PIECES: list[bytes | bytearray] = []
"""What assemblers share until a piece arrives past a gap: most never see one. Nothing is ever put into it."""


class Assembler:
    """Bytes by offset, given out in order. `end` is where the unbroken part ends."""

    __slots__ = ("_pieces", "_starts", "buffered", "end")

    def __init__(self, end: int = 0) -> None:
        self.end = end
        self.buffered = 0
        """Bytes kept past a gap."""
        self._starts: list[int] = _NO_STARTS
        self._pieces: list[bytes | bytearray] = _NO_PIECES

    @property
    def gaps(self) -> int:
        """Pieces that wait for what is missing before them."""
        return len(self._starts)

    def insert(self, offset: int, data: bytes) -> list[bytes]:
        """Take in data at `offset`, which may overlap what is known; give what is now in order."""
        end = offset + len(data)
        if offset < self.end:
            if end <= self.end:
                return []
            data = data[self.end - offset :]
            offset = self.end
        starts, pieces = self._starts, self._pieces
        if offset == self.end and (not starts or end < starts[0]):
            self.end = end
            return [data] if data else []
        if data:
            if starts is _NO_STARTS:
                starts, pieces = self._starts, self._pieces = [], []
            self._keep(offset, end, data)
        ready: list[bytes] = []
        while starts and starts[0] == self.end:
            piece = bytes(pieces.pop(0))
            del starts[0]
            self.end += len(piece)
            self.buffered -= len(piece)
            ready.append(piece)
        return ready

    def _keep(self, offset: int, end: int, data: bytes) -> None:
        """Put [offset, end) into the map; short neighbours that touch become one piece."""
        starts, pieces = self._starts, self._pieces
        at = bisect_right(starts, offset)
        target: bytearray | None = None
        if at:
            before = pieces[at - 1]
            known = starts[at - 1] + len(before)
            if known >= end:
                return
            if known >= offset:
                data = data[known - offset :]
                offset = known
                if not isinstance(before, bytearray):
                    before = pieces[at - 1] = bytearray(before)
                target = before
        stop = at
        tail: bytes | bytearray = b""
        while stop < len(starts) and starts[stop] <= end:
            after = starts[stop] + len(pieces[stop])
            if after - end > FRAGMENT_BYTES:  # too long to be copied for every crumb before it: stays, touching
                data = data[: len(data) - end + starts[stop]]
                break
            self.buffered -= len(pieces[stop])
            if after > end:
                tail = pieces[stop][end - starts[stop] :]
            stop += 1
        del starts[at:stop], pieces[at:stop]
        self.buffered += len(data) + len(tail)
        if target is not None:
            target += data
            target += tail
        else:
            starts.insert(at, offset)
            pieces.insert(at, bytearray(data) + tail if tail else data)


class ReceiveState(Enum):
    """RFC 9000 section 3.2, figure 3."""

    RECV = "Recv"
    SIZE_KNOWN = "Size Known"
    DATA_RECVD = "Data Recvd"
    DATA_READ = "Data Read"
    RESET_RECVD = "Reset Recvd"
    RESET_READ = "Reset Read"

    __hash__ = object.__hash__  # there is one of each, and Enum's own costs more than the rest of a look-up


RECEIVE_TRANSITIONS: dict[ReceiveState, frozenset[ReceiveState]] = {
    ReceiveState.RECV: frozenset({ReceiveState.SIZE_KNOWN, ReceiveState.RESET_RECVD}),
    ReceiveState.SIZE_KNOWN: frozenset({ReceiveState.DATA_RECVD, ReceiveState.RESET_RECVD}),
    ReceiveState.DATA_RECVD: frozenset({ReceiveState.DATA_READ}),
    ReceiveState.DATA_READ: frozenset(),
    ReceiveState.RESET_RECVD: frozenset({ReceiveState.RESET_READ}),
    ReceiveState.RESET_READ: frozenset(),
}
RECEIVE_FINAL = frozenset({ReceiveState.DATA_READ, ReceiveState.RESET_READ})


class ReceiveStream:
    """What arrives on one stream, in order, within its window."""

    __slots__ = ("_assembler", "_ready", "discarding", "end", "final_size", "finished", "fragment_bytes", "fragments",
                 "notified", "ready_bytes", "reliable_size", "reset_code", "state", "stop_code", "stream_id",
                 "window")  # fmt: skip

    def __init__(self, stream_id: int, window: ReceiveWindow) -> None:
        self.stream_id = stream_id
        self.window = window
        self.state = ReceiveState.RECV
        self.finished = False
        """True in a terminal state."""
        self.end = 0
        """The offset up to which everything has arrived."""
        self.final_size: int | None = None
        self.reset_code: int | None = None
        self.reliable_size = 0
        """Bytes that are delivered before a reset is told (draft-ietf-quic-reliable-stream-reset)."""
        self.stop_code: int | None = None
        self.discarding = False
        """True after STOP_SENDING: what arrives is counted and dropped."""
        self.notified = False
        """True while the application knows of something to read."""
        self.ready_bytes = 0
        self._ready: list[bytes] = []
        self._assembler: Assembler | None = None
        """Only while there is a gap."""
        self.fragments = 0
        """Pieces past a gap."""
        self.fragment_bytes = 0

    @property
    def in_order(self) -> bool:
        """True if no gap is known, no end either: `receive_run` may be used at `end`."""
        return self.state is ReceiveState.RECV and self._assembler is None and not self.discarding

    @property
    def at_end(self) -> bool:
        """True if everything up to the final size has been read."""
        return self.state is ReceiveState.DATA_READ

    @property
    def reset_received(self) -> bool:
        """True once a reset, and all that goes before it, has arrived."""
        return self.state is ReceiveState.RESET_RECVD or self.state is ReceiveState.RESET_READ

    @property
    def readable(self) -> bool:
        """True if `read` would give bytes, or the end."""
        return self.ready_bytes > 0 or self.state is ReceiveState.DATA_RECVD

    def receive_run(self, pieces: list[bytes], total: int) -> None:
        """The fast path: `pieces`, `total` bytes, follow `end`; `in_order` holds and the window was checked."""
        self.end += total
        self.window.highest = self.end
        self.ready_bytes += total
        self._ready += pieces

    def receive(self, offset: int, data: bytes, fin: bool) -> int:
        """Take in a STREAM frame; give by how much it raised the highest offset (section 4.1)."""
        end = offset + len(data)
        window = self.window
        if offset == self.end and self.in_order and end <= window.limit:
            window.highest = self.end = end
            if data:
                self._add_ready(data)
            if fin:
                self.final_size = end
                self._go(ReceiveState.SIZE_KNOWN)
                self._go(ReceiveState.DATA_RECVD)
            return end - offset
        self._check(end, fin)
        grown = max(end - window.highest, 0)
        window.highest += grown
        if fin and self.final_size is None:
            self.final_size = end
            if self.state is ReceiveState.RECV:
                self._go(ReceiveState.SIZE_KNOWN)
        if self.state not in (ReceiveState.RECV, ReceiveState.SIZE_KNOWN):
            return grown
        if not self.discarding:
            self._assemble(offset, data)
        if self.state is ReceiveState.SIZE_KNOWN:
            if self.discarding:
                self._discarded()
            elif self.reset_code is not None:
                self._settle_reset()
            elif self.end == self.final_size:
                self._go(ReceiveState.DATA_RECVD)
        return grown

    def _assemble(self, offset: int, data: bytes) -> None:
        """Take in what does not simply follow."""
        assembler = self._assembler or Assembler(self.end)
        for piece in assembler.insert(offset, data):
            self._add_ready(piece)
        self.end = assembler.end
        self._assembler = assembler if assembler.gaps else None
        self.fragments, self.fragment_bytes = assembler.gaps, assembler.buffered
        if assembler.gaps > MAX_STREAM_FRAGMENTS + assembler.buffered // FRAGMENT_BYTES:
            raise PeerError(
                ErrorCode.PROTOCOL_VIOLATION, "a stream in too many fragments", section="RFC 9000 section 2.2"
            )

    def _add_ready(self, piece: bytes) -> None:
        """Queue bytes in order for `read`; crumbs are put together, so that they cost what they hold."""
        ready = self._ready
        if ready and len(ready[-1]) + len(piece) <= FRAGMENT_BYTES:
            ready[-1] += piece
        else:
            ready.append(piece)
        self.ready_bytes += len(piece)

    def _discarded(self) -> None:
        """The size of a stream that nobody reads is known: nothing more is waited for."""
        self._go(ReceiveState.DATA_RECVD)
        self._go(ReceiveState.DATA_READ)

    def reset(self, final_size: int, code: int, reliable_size: int = 0) -> int:
        """Take in RESET_STREAM or RESET_STREAM_AT; give by how much it raised the highest offset.

        The first `reliable_size` bytes are still delivered: until they are there, the stream is one of known size.
        """
        self._check(final_size, True)
        if self.reset_code not in (None, code):
            raise PeerError(
                ErrorCode.STREAM_STATE_ERROR,
                "a reset with another code than the one before",
                section="draft-ietf-quic-reliable-stream-reset section 5.2",
            )
        grown = max(final_size - self.window.highest, 0)
        self.window.highest += grown
        self.final_size = final_size
        if self.state in (ReceiveState.RECV, ReceiveState.SIZE_KNOWN):
            if self.reset_code is not None:
                reliable_size = min(reliable_size, self.reliable_size)
            self.reset_code = code
            self.reliable_size = 0 if self.discarding else reliable_size
            if self.state is ReceiveState.RECV:
                self._go(ReceiveState.SIZE_KNOWN)
            self._settle_reset()
        return grown

    def _settle_reset(self) -> None:
        """The reset can be told as soon as everything is there that goes before it."""
        if self.end < self.reliable_size:
            return
        if not self.reliable_size:
            self._ready.clear()
            self.ready_bytes = 0
        self._drop_fragments()
        self._go(ReceiveState.RESET_RECVD)

    def _check(self, end: int, final: bool) -> None:
        """Final size and flow control (section 4.5 and 4.1)."""
        known = self.final_size
        if known is not None and (end > known or (final and end != known)):
            raise PeerError(
                ErrorCode.FINAL_SIZE_ERROR, "the final size of a stream changed", section="RFC 9000 section 4.5"
            )
        if final and end < self.window.highest:
            raise PeerError(
                ErrorCode.FINAL_SIZE_ERROR,
                "the final size is below what was received",
                section="RFC 9000 section 4.5",
            )
        if end > self.window.limit:
            raise PeerError(
                ErrorCode.FLOW_CONTROL_ERROR,
                f"stream {self.stream_id} was sent past its limit",
                section="RFC 9000 section 4.1",
            )

    def read(self, limit: int = -1) -> bytes:
        """Up to `limit` bytes in order, all that are there if negative; b"" if there are none."""
        ready = self._ready
        if limit < 0 or self.ready_bytes <= limit:
            data = ready[0] if len(ready) == 1 else b"".join(ready)
            ready.clear()
        else:
            data = self._take(limit)
        self.ready_bytes -= len(data)
        self.window.consumed += len(data)
        self.notified = False
        if self.state is ReceiveState.DATA_RECVD and not self.ready_bytes:
            self._go(ReceiveState.DATA_READ)
        return data

    def _take(self, limit: int) -> bytes:
        ready, whole = self._ready, 0
        while len(ready[whole]) <= limit:  # more than `limit` bytes are there
            limit -= len(ready[whole])
            whole += 1
        taken = ready[:whole]
        if limit:
            taken.append(ready[whole][:limit])
            ready[whole] = ready[whole][limit:]
        del ready[:whole]
        return b"".join(taken)

    def acknowledge_reset(self) -> int:
        """The application has learnt of the reset: give the unread bytes that its window takes back."""
        if self.state is ReceiveState.RESET_RECVD:
            self._go(ReceiveState.RESET_READ)
        return self.settle()

    def settle(self) -> int:
        """Count everything that was received as read (the application no longer wants it); give how much."""
        unread = self.window.highest - self.window.consumed
        self.window.consumed = self.window.highest
        self._ready.clear()
        self.ready_bytes = 0
        return unread

    def stop(self, code: int) -> None:
        """The application asks for no more (STOP_SENDING with `code`)."""
        self.discarding = True
        self.stop_code = code
        self._drop_fragments()
        if self.state is ReceiveState.DATA_RECVD:
            self._go(ReceiveState.DATA_READ)
        elif self.state is ReceiveState.SIZE_KNOWN:
            self._discarded()

    def _drop_fragments(self) -> None:
        self._assembler = None
        self.fragments = self.fragment_bytes = 0

    def _go(self, state: ReceiveState) -> None:
        assert state in RECEIVE_TRANSITIONS[self.state], (self.state, state)
        self.state = state
        self.finished = state in RECEIVE_FINAL
