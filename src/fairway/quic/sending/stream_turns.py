"""Whose bytes go into the packets of a batch: streams in the order of the schedule, and what became of their turns."""

from __future__ import annotations

from fairway.quic.events import StreamWritable
from fairway.quic.frames import DATA_BLOCKED, RESET_STREAM, STREAM, STREAM_DATA_BLOCKED, stream_header
from fairway.quic.state import ConnectionState
from fairway.quic.streams.send import SendStream
from fairway.wire import varint_length

MIN_STREAM_ROOM = 64  # a STREAM frame is not begun in less room than this at a packet's end


class StreamTurns:
    """Takes bytes out of the streams of one connection, for packets."""

    __slots__ = ("_begun", "_state")

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self._begun: SendStream | None = None
        """The stream whose piece ended the last mixed packet: its turn goes on in the same batch."""

    def next(self) -> tuple[SendStream, int, int, bool] | None:
        """The stream whose turn it is and its next bytes; those that cannot send leave the schedule."""
        streams = self._state.streams
        outgoing, schedule = self._state.outgoing, streams.schedule
        while (stream := schedule.first()) is not None:
            ready = stream.next_range(outgoing.credit())
            if ready is not None:
                return stream, *ready
            if stream.buffer.unsent and stream.sending:
                if stream.window.left <= 0:
                    if stream.window.should_report():
                        streams.control[(STREAM_DATA_BLOCKED, stream.stream_id)] = None
                    schedule.remove(stream)
                else:
                    if outgoing.window.should_report():
                        streams.control[(DATA_BLOCKED, 0)] = None
                    schedule.block(stream)
            else:
                schedule.remove(stream)
        return None

    def sent(self, stream: SendStream, offset: int, length: int, new: bool) -> bool:
        """Account for stream bytes that are in packets; True if the stream's end goes with them."""
        fin = stream.mark_sent(offset, length, new)
        if new:
            self._state.outgoing.sent(length)
            if stream.starved and 2 * stream.buffer.unsent <= self._state.configuration.send_buffer:
                stream.starved = False
                self._state.events.append(StreamWritable(stream.stream_id))
            if stream.reset_code is not None and stream.buffer.sent >= stream.reliable:
                self._state.control[(RESET_STREAM, stream.stream_id)] = None
        else:
            self._state.counters.stream_bytes_retransmitted += length
        return fin

    def over(self, stream: SendStream) -> None:
        """The stream has had its share of the batch."""
        self._begun = None
        schedule = self._state.streams.schedule
        if stream.idle:
            schedule.remove(stream)
        else:
            schedule.served(stream)

    def end_batch(self) -> None:
        """No more packets are filled for now."""
        if self._begun is not None:
            self.over(self._begun)

    def add_pieces(self, parts: list[bytes | memoryview], records: list[tuple[int, ...]], left: int) -> int:
        """Pieces of streams in their order; the last one reaches to the packet's end if it is long enough."""
        while left >= MIN_STREAM_ROOM:
            ready = self.next()
            if ready is None:
                break
            stream, offset, length, new = ready
            stream_id = stream.stream_id
            rest = left - 1 - varint_length(stream_id) - (varint_length(offset) if offset else 0)
            if length >= rest:
                explicit, length = None, rest
            else:  # the length itself takes a byte or two
                if length > rest - 2:
                    length = rest - 2
                explicit = length
            fin = self.sent(stream, offset, length, new)
            header = stream_header(stream_id, offset, explicit, fin)
            parts.append(header)
            if length:
                parts.append(stream.buffer.peek(offset, length))
            records.append((STREAM, stream_id, offset, length, fin))
            left -= len(header) + length
            if stream.idle:
                self._state.streams.schedule.remove(stream)
            else:
                self._begun = stream
        return left
