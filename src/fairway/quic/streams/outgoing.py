"""What we send on all streams of a connection together: the peer's credit, and what is kept until it has it."""

from __future__ import annotations

from fairway.quic.frames import RESET_STREAM
from fairway.quic.limits import MAX_BYTES_KEPT
from fairway.quic.streams.flow_control import SendWindow
from fairway.quic.streams.send import SendStream
from fairway.quic.streams.table import StreamTable
from fairway.quic.transport_parameters import TransportParameters


class Outgoing:
    """The sending halves of the streams of a table, and the window that they share (RFC 9000 section 4.1)."""

    __slots__ = ("_table", "_takes_reliable", "bytes_kept", "window")

    def __init__(self, table: StreamTable) -> None:
        self._table = table
        self.window = SendWindow(0)
        self.bytes_kept = 0
        """Bytes that were sent and are kept until they and all before them are acknowledged."""
        self._takes_reliable = False

    # What the peer lets us do

    def set_peer(self, parameters: TransportParameters) -> None:
        """The peer's limits are known."""
        self._takes_reliable = parameters.reset_stream_at
        self.window.raise_limit(parameters.initial_max_data)
        self._table.set_peer(parameters)

    def forget_peer(self) -> None:
        """The peer's limits as they were remembered hold no more; `set_peer` follows. Until then nothing is sent."""
        self.window.limit = 0
        self._table.forget_peer()

    def credit(self) -> int:
        """New bytes that may be sent now, whatever a stream's own window says."""
        return min(self.window.left, MAX_BYTES_KEPT - self.bytes_kept)

    # What becomes of bytes

    def sent(self, count: int) -> None:
        """So many new bytes are in packets."""
        self.window.used += count
        self.bytes_kept += count

    def acknowledged(self, stream: SendStream, start: int, stop: int, fin: bool) -> None:
        """The peer has these bytes (and the stream's end)."""
        first = stream.buffer.start
        stream.acknowledged(start, stop, fin)
        freed = stream.buffer.start - first
        if freed:
            if stream.reset_code is not None:  # what a reset does not promise was given up with it
                freed = max(min(stream.buffer.start, stream.reliable) - first, 0)
            self._free(freed)

    def reset(self, stream_id: int, code: int) -> int:
        """Give up sending on a stream, but for what was committed if the peer takes that; gives the final size."""
        stream = self._table.sending(stream_id)
        again = stream.finished or stream.reset_code is not None
        kept = stream.kept
        final_size = stream.reset(code, reliably=self._takes_reliable)
        if again:
            return final_size
        self._free(kept - stream.kept)
        if stream.sending and not stream.idle:
            self._table.schedule.add(stream)
        else:
            self._table.schedule.remove(stream)
        self._table.control[(RESET_STREAM, stream_id)] = None
        return final_size

    def rewind(self) -> None:
        """Nothing of what was sent on any stream has arrived, nor will: all of it is to be sent as new."""
        self.window.used = self.bytes_kept = 0
        self._table.rewind()

    def _free(self, count: int) -> None:
        """So many bytes that were sent are kept no longer."""
        if self.bytes_kept >= MAX_BYTES_KEPT:
            self._table.schedule.unblock()
        self.bytes_kept -= count
