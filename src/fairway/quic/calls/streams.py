"""What an application does with the streams of a connection."""

from __future__ import annotations

from fairway.quic.errors import ConnectionClosed, UsageError
from fairway.quic.state import ConnectionState


class StreamCalls:
    """The calls about streams of a `Connection`. A caller's mistake is `UsageError`."""

    __slots__ = ("_state",)

    def __init__(self, state: ConnectionState) -> None:
        self._state = state

    def open_stream(self, *, unidirectional: bool = False) -> int | None:
        """Open a stream; None before anything can be sent, and while the peer allows no more (see StreamsAvailable)."""
        self._check_open()
        if not self._state.streams_usable:
            return None
        pair = self._state.streams.open(unidirectional)
        return None if pair is None else pair.stream_id

    def write(
        self, stream_id: int, data: bytes | bytearray | memoryview, *, end: bool = False, whole: bool = False
    ) -> int:
        """Add data to a stream, and its end; give how many bytes were accepted.

        Fewer than given are accepted when the send buffer is full: StreamWritable tells when there is room again, and
        `end` counts only if everything was accepted. `whole` accepts everything: for little that must not be cut.
        """
        self._check_open()
        streams = self._state.streams
        stream = streams.sending(stream_id)
        if not stream.writable:
            raise UsageError(f"stream {stream_id} was ended or reset")
        room = max(self._state.configuration.send_buffer - stream.buffer.unsent, 0)
        accepted = len(data)
        if accepted > room and not whole:
            accepted = room
            stream.starved = True
            end = False
            data = memoryview(data)[:room]
        stream.write(data, end)
        streams.schedule.add(stream)
        return accepted

    def room(self, stream_id: int, wanted: int) -> int:
        """How many of `wanted` bytes `write` would accept; if not all, StreamWritable tells when there is room."""
        self._check_open()
        stream = self._state.streams.sending(stream_id)
        room = max(self._state.configuration.send_buffer - stream.buffer.unsent, 0)
        if room < wanted:
            stream.starved = True
            return room
        return wanted

    def unsent(self, stream_id: int) -> int:
        """Bytes that were written on a stream and never sent; 0 if it is gone."""
        pair = self._state.streams.get(stream_id)
        return 0 if pair is None or pair.send is None else pair.send.buffer.unsent

    def at_stream_limit(self, stream_id: int) -> bool:
        """True if the peer's own limit of the stream keeps us from sending on it (RFC 9000 section 4.1)."""
        pair = self._state.streams.get(stream_id)
        return pair is not None and pair.send is not None and pair.send.window.left <= 0

    @property
    def data_sent(self) -> int:
        """Bytes of all streams that were sent, each once, whether or not they have arrived."""
        return self._state.outgoing.window.used

    def read(self, stream_id: int, limit: int = -1) -> bytes:
        """What has arrived in order, up to `limit` bytes; b"" if nothing has, or at the end (see `at_end`)."""
        return self._state.incoming.read(stream_id, limit)

    def arrived(self, stream_id: int) -> int:
        """The highest offset of what the peer has sent on a stream, as far as is known (RFC 9000 section 4.1)."""
        return self._state.streams.receiving(stream_id).window.highest

    def at_end(self, stream_id: int) -> bool:
        """True if everything up to the stream's end was read, or the stream is gone."""
        pair = self._state.streams.get(stream_id)
        return pair is None or pair.recv is None or pair.recv.finished

    def commit(self, stream_id: int) -> None:
        """What was written so far is delivered even if the stream is reset: by RESET_STREAM_AT, if the peer takes it.

        It tells so in its transport parameters (`peer_parameters.reset_stream_at`); else a reset is a plain one.
        """
        self._state.streams.sending(stream_id).commit()

    def reset(self, stream_id: int, code: int) -> int:
        """Give up sending on a stream, but for what was committed; gives the final size (RFC 9000 section 4.5)."""
        return self._state.outgoing.reset(stream_id, code)

    def stop_sending(self, stream_id: int, code: int) -> None:
        """Ask the peer to give up sending on a stream: STOP_SENDING."""
        self._state.incoming.stop_sending(stream_id, code)

    def acknowledge_reset(self, stream_id: int) -> None:
        """The application has learnt of the peer's reset: the stream's receiving half is done."""
        self._state.incoming.acknowledge_reset(stream_id)

    def set_priority(self, stream_id: int, urgency: int, incremental: bool = True) -> None:
        """Order streams among each other, at any time: urgency 0 (first) to 7 (RFC 9218, see `streams.schedule`)."""
        if not 0 <= urgency <= 7:
            raise UsageError(f"urgency is {urgency}: it must be 0 to 7")
        streams = self._state.streams
        streams.schedule.prioritize(streams.sending(stream_id), urgency, incremental)

    def stream_limit_for_peer(self) -> int:
        """How many bidirectional streams the peer may have opened in all (RFC 9000 section 4.6)."""
        return self._state.streams.limit_for_peer(False)

    def _check_open(self) -> None:
        if self._state.closing is not None:
            raise ConnectionClosed(self._state.closing)
