"""What the peer sends on all streams of a connection together: its credit, and what waits for what is missing."""

from __future__ import annotations

from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.frames import MAX_DATA, MAX_STREAM_DATA, STOP_SENDING
from fairway.quic.limits import FRAGMENT_BYTES, MAX_FRAGMENTS
from fairway.quic.streams.flow_control import ReceiveWindow
from fairway.quic.streams.recv import ReceiveStream
from fairway.quic.streams.table import StreamTable


class Incoming:
    """The receiving halves of the streams of a table, and the window that they share (RFC 9000 section 4.1)."""

    __slots__ = ("_fragment_bytes", "_fragments", "_table", "window")

    def __init__(self, table: StreamTable, window: ReceiveWindow) -> None:
        self._table = table
        self.window = window
        self._fragments = 0
        """Pieces of all streams that wait for what is missing before them."""
        self._fragment_bytes = 0

    # What the peer does

    def receive(self, stream: ReceiveStream, offset: int, data: bytes, fin: bool) -> None:
        """A STREAM frame arrived."""
        before = stream.fragments, stream.fragment_bytes
        self.received(stream, stream.receive(offset, data, fin))
        if stream.fragments or before[0]:
            self._count_fragments(stream, *before)

    def received(self, stream: ReceiveStream, grown: int) -> None:
        """A stream's highest offset rose by `grown`: it counts against the connection's window (section 4.1)."""
        window = self.window
        window.highest += grown
        if window.highest > window.limit:
            raise PeerError(
                ErrorCode.FLOW_CONTROL_ERROR,
                "the connection was sent past its limit",
                section="RFC 9000 section 4.1",
            )
        if stream.discarding:
            self._consumed(stream, stream.settle())

    def received_reset(self, stream: ReceiveStream, final_size: int, code: int, reliable_size: int = 0) -> None:
        """RESET_STREAM and RESET_STREAM_AT: what nobody will read is given back to the connection's window."""
        before = stream.fragments, stream.fragment_bytes
        self.received(stream, stream.reset(final_size, code, reliable_size))
        self._count_fragments(stream, *before)
        if not stream.reliable_size:
            self._consumed(stream, stream.settle())

    # What the application does

    def read(self, stream_id: int, limit: int = -1) -> bytes:
        """What has arrived in order; reading is what raises the limits."""
        stream = self._table.receiving(stream_id)
        data = stream.read(limit)
        self._consumed(stream, len(data))
        return data

    def stop_sending(self, stream_id: int, code: int) -> None:
        """Ask the peer to give up sending on a stream; what is unread counts as read."""
        stream = self._table.receiving(stream_id)
        if stream.finished or stream.discarding:
            return
        if stream.final_size is None:
            self._table.control[(STOP_SENDING, stream_id)] = None
        before = stream.fragments, stream.fragment_bytes
        stream.stop(code)
        self._count_fragments(stream, *before)
        self._consumed(stream, stream.settle())

    def acknowledge_reset(self, stream_id: int) -> None:
        """The application has learnt of a reset: nothing more of the stream is read."""
        pair = self._table.get(stream_id)
        if pair is not None and pair.recv is not None:
            self._consumed(pair.recv, pair.recv.acknowledge_reset())

    # What both come to

    def _count_fragments(self, stream: ReceiveStream, fragments: int, fragment_bytes: int) -> None:
        """A stream's fragments are no longer what they were; of all streams together only so many are kept."""
        self._fragments += stream.fragments - fragments
        self._fragment_bytes += stream.fragment_bytes - fragment_bytes
        if self._fragments > MAX_FRAGMENTS + self._fragment_bytes // FRAGMENT_BYTES:
            raise PeerError(
                ErrorCode.PROTOCOL_VIOLATION, "streams in too many fragments", section="RFC 9000 section 2.2"
            )

    def _consumed(self, stream: ReceiveStream, count: int) -> None:
        window = self.window
        window.consumed += count
        if window.wants_raise:
            self._table.control[(MAX_DATA, 0)] = None
        if stream.final_size is None and stream.window.wants_raise and not stream.discarding:
            self._table.control[(MAX_STREAM_DATA, stream.stream_id)] = None
        if stream.finished:
            self._table.forget_if_finished(stream.stream_id)
