"""A connection's streams: which exist, which may be opened, their common flow control (RFC 9000 section 2 to 4)."""

from __future__ import annotations

from fairway.quic.errors import ErrorCode, PeerError, UsageError
from fairway.quic.frames import (
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS_BIDI,
    MAX_STREAMS_UNI,
    RESET_STREAM,
    STOP_SENDING,
    STREAMS_BLOCKED_BIDI,
    STREAMS_BLOCKED_UNI,
)
from fairway.quic.handshake.transport_parameters import TransportParameters
from fairway.quic.limits import FRAGMENT_BYTES, MAX_BYTES_KEPT, MAX_FRAGMENTS
from fairway.quic.streams.flow_control import ReceiveWindow, SendWindow
from fairway.quic.streams.recv import ReceiveStream
from fairway.quic.streams.schedule import Schedule
from fairway.quic.streams.send import SendStream

SERVER_INITIATED = 0x01  # RFC 9000 section 2.1
UNIDIRECTIONAL = 0x02

ControlKey = tuple[int, int]
"""A control frame to be sent: its type, and the stream, sequence number or 0 that it is about."""


class StreamPair:
    """A stream's halves; a unidirectional stream has one."""

    __slots__ = ("recv", "send", "stream_id")

    def __init__(self, stream_id: int, send: SendStream | None, recv: ReceiveStream | None) -> None:
        self.stream_id = stream_id
        self.send = send
        self.recv = recv


class StreamTable:
    """All streams that are not finished, and the limits on more."""

    __slots__ = (
        "_fragment_bytes", "_fragments", "_local_bit", "_local_limit", "_next_local", "_next_peer",
        "_peer_finished", "_peer_limit", "_peer_takes_reliable", "_peer_window", "_receive_sizes", "_refused",
        "_send_limits", "_stream_cap", "_streams", "bytes_kept", "control", "opened", "receive_window", "schedule",
        "send_window",
    )  # fmt: skip

    def __init__(self, *, is_client: bool, local: TransportParameters, stream_cap: int, connection_cap: int) -> None:
        self._local_bit = 0 if is_client else SERVER_INITIATED
        # By the two lowest bits of a stream's ID; absent where that half does not exist.
        self._receive_sizes = _limits(local, self._local_bit)
        self._send_limits = _NO_LIMITS[self._local_bit ^ SERVER_INITIATED]
        self._stream_cap = stream_cap
        self._streams: dict[int, StreamPair] = {}
        self.receive_window = ReceiveWindow(local.initial_max_data, connection_cap)
        self.send_window = SendWindow(0)
        self.schedule = Schedule()
        self.control: dict[ControlKey, None] = {}
        """Control frames about streams that wait to be sent, in order."""
        self.opened: list[int] = []
        """Streams that the peer opened, for the events."""
        # Indexed by the UNIDIRECTIONAL bit: False and True.
        self._next_local = [0, 0]
        self._local_limit = [0, 0]
        self._refused = [False, False]
        """Whether an `open` was refused since the limit last rose."""
        self._next_peer = [0, 0]
        self._peer_window = [local.initial_max_streams_bidi, local.initial_max_streams_uni]
        self._peer_limit = list(self._peer_window)
        self._peer_finished = [0, 0]
        self._peer_takes_reliable = False
        self._fragments = 0
        """Pieces of all streams that wait for what is missing before them."""
        self._fragment_bytes = 0
        self.bytes_kept = 0
        """Bytes that were sent and are kept until they and all before them are acknowledged."""

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._streams

    @property
    def opened_ever(self) -> tuple[int, int]:
        """Streams that we opened, and that the peer opened, in all."""
        return sum(self._next_local), sum(self._next_peer)

    def set_peer(self, parameters: TransportParameters) -> None:
        """The peer's limits are known."""
        self._send_limits = _limits(parameters, self._local_bit ^ SERVER_INITIATED)
        self.send_window.raise_limit(parameters.initial_max_data)
        self._peer_takes_reliable = parameters.reset_stream_at
        self._local_limit = [parameters.initial_max_streams_bidi, parameters.initial_max_streams_uni]
        for pair in self._streams.values():
            if pair.send is not None:
                pair.send.window.raise_limit(self._send_limits[pair.stream_id & 3])
                if self._allowed(pair.stream_id):
                    self.schedule.add(pair.send)
        self.schedule.unblock()

    def rewind(self) -> None:
        """Nothing of what was sent on any stream has arrived, nor will: all of it is to be sent as new."""
        self.send_window.used = self.bytes_kept = 0
        for pair in self._streams.values():
            if pair.send is not None:
                pair.send.rewind()
                self.schedule.add(pair.send)
        self.schedule.unblock()

    def forget_peer(self) -> None:
        """The peer's limits as they were remembered hold no more; `set_peer` follows. Until then nothing is sent."""
        self._send_limits = dict.fromkeys(self._send_limits, 0)
        self.send_window.limit = 0
        self._local_limit = [0, 0]
        for pair in self._streams.values():
            if pair.send is not None:
                pair.send.window.limit = 0
                self.schedule.remove(pair.send)

    def _allowed(self, stream_id: int) -> bool:
        """Whether the peer lets us use a stream: those opened by remembered limits may be too many (0-RTT)."""
        if stream_id & SERVER_INITIATED != self._local_bit:
            return True
        return stream_id >> 2 < self._local_limit[(stream_id >> 1) & 1]

    # What the application does

    def open(self, unidirectional: bool) -> StreamPair | None:
        """Open a stream; None while the peer's limit allows no more."""
        index = self._next_local[unidirectional]
        if index >= self._local_limit[unidirectional]:
            self._refused[unidirectional] = True
            self.control[(STREAMS_BLOCKED_UNI if unidirectional else STREAMS_BLOCKED_BIDI, 0)] = None
            return None
        self._next_local[unidirectional] = index + 1
        return self._create((index << 2) | self._local_bit | (UNIDIRECTIONAL if unidirectional else 0))

    def get(self, stream_id: int) -> StreamPair | None:
        """The stream, if it is not finished."""
        return self._streams.get(stream_id)

    def sending(self, stream_id: int) -> SendStream:
        """The sending half, for the caller's use."""
        pair = self._streams.get(stream_id)
        if pair is None or pair.send is None:
            raise UsageError(f"stream {stream_id} cannot be sent on")
        return pair.send

    def receiving(self, stream_id: int) -> ReceiveStream:
        """The receiving half, for the caller's use."""
        pair = self._streams.get(stream_id)
        if pair is None or pair.recv is None:
            raise UsageError(f"stream {stream_id} cannot be received on")
        return pair.recv

    def read(self, stream_id: int, limit: int = -1) -> bytes:
        """What has arrived in order; reading is what raises the limits."""
        stream = self.receiving(stream_id)
        data = stream.read(limit)
        self._consumed(stream, len(data))
        return data

    def reset(self, stream_id: int, code: int) -> int:
        """Give up sending on a stream, but for what was committed if the peer takes that; gives the final size."""
        stream = self.sending(stream_id)
        again = stream.finished or stream.reset_code is not None
        kept = stream.kept
        final_size = stream.reset(code, reliably=self._peer_takes_reliable)
        if again:
            return final_size
        self._free(kept - stream.kept)
        if stream.sending and not stream.idle:
            self.schedule.add(stream)
        else:
            self.schedule.remove(stream)
        self.control[(RESET_STREAM, stream_id)] = None
        return final_size

    def stop_sending(self, stream_id: int, code: int) -> None:
        """Ask the peer to give up sending on a stream; what is unread counts as read."""
        stream = self.receiving(stream_id)
        if stream.finished or stream.discarding:
            return
        if stream.final_size is None:
            self.control[(STOP_SENDING, stream_id)] = None
        before = stream.fragments, stream.fragment_bytes
        stream.stop(code)
        self._count_fragments(stream, *before)
        self._consumed(stream, stream.settle())

    def _consumed(self, stream: ReceiveStream, count: int) -> None:
        window = self.receive_window
        window.consumed += count
        if window.wants_raise:
            self.control[(MAX_DATA, 0)] = None
        if stream.final_size is None and stream.window.wants_raise and not stream.discarding:
            self.control[(MAX_STREAM_DATA, stream.stream_id)] = None
        if stream.finished:
            self.forget_if_finished(stream.stream_id)

    # What the peer does

    def receive(self, stream: ReceiveStream, offset: int, data: bytes, fin: bool) -> None:
        """A STREAM frame arrived."""
        before = stream.fragments, stream.fragment_bytes
        self.received(stream, stream.receive(offset, data, fin))
        if stream.fragments or before[0]:
            self._count_fragments(stream, *before)

    def _count_fragments(self, stream: ReceiveStream, fragments: int, fragment_bytes: int) -> None:
        """A stream's fragments are no longer what they were; of all streams together only so many are kept."""
        self._fragments += stream.fragments - fragments
        self._fragment_bytes += stream.fragment_bytes - fragment_bytes
        if self._fragments > MAX_FRAGMENTS + self._fragment_bytes // FRAGMENT_BYTES:
            raise PeerError(
                ErrorCode.PROTOCOL_VIOLATION, "streams in too many fragments", section="RFC 9000 section 2.2"
            )

    def received(self, stream: ReceiveStream, grown: int) -> None:
        """A stream's highest offset rose by `grown`: it counts against the connection's window (section 4.1)."""
        window = self.receive_window
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

    def acknowledge_reset(self, stream_id: int) -> None:
        """The application has learnt of a reset: nothing more of the stream is read."""
        pair = self._streams.get(stream_id)
        if pair is not None and pair.recv is not None:
            self._consumed(pair.recv, pair.recv.acknowledge_reset())

    def for_receiving(self, stream_id: int, frame_type: int) -> ReceiveStream | None:
        """The half that a frame about data from the peer is for; None if the stream is finished."""
        pair = self._streams.get(stream_id)
        if pair is None:
            if stream_id & 3 not in self._receive_sizes:
                raise _wrong_state(frame_type, f"stream {stream_id} only sends to the peer")
            pair = self._open_by_peer(stream_id, frame_type)
        elif pair.recv is None:
            raise _wrong_state(frame_type, f"stream {stream_id} only sends to the peer")
        return None if pair is None else pair.recv

    def for_sending(self, stream_id: int, frame_type: int) -> SendStream | None:
        """The half that a frame about data to the peer is for; None if the stream is finished."""
        if stream_id & 3 not in self._send_limits:
            raise _wrong_state(frame_type, f"stream {stream_id} only receives from the peer")
        pair = self._streams.get(stream_id) or self._open_by_peer(stream_id, frame_type)
        return None if pair is None else pair.send

    def _open_by_peer(self, stream_id: int, frame_type: int) -> StreamPair | None:
        """The stream that a frame opens which names none that is open; None if it was, and is finished."""
        index, kind = stream_id >> 2, (stream_id >> 1) & 1
        if stream_id & SERVER_INITIATED == self._local_bit:
            if index >= self._next_local[kind]:
                raise _wrong_state(frame_type, f"stream {stream_id} was not opened")
            return None
        if index < self._next_peer[kind]:
            return None
        if index >= self._peer_limit[kind]:
            raise PeerError(
                ErrorCode.STREAM_LIMIT_ERROR,
                f"stream {stream_id} is past the limit of {self._peer_limit[kind]}",
                frame_type=frame_type,
                section="RFC 9000 section 4.6",
            )
        for opened in range(self._next_peer[kind], index + 1):  # section 3.2: opens all lower ones
            pair = self._create((opened << 2) | (stream_id & 3))
            self.opened.append(pair.stream_id)
        self._next_peer[kind] = index + 1
        return pair

    def acknowledged(self, stream: SendStream, start: int, stop: int, fin: bool) -> None:
        """The peer has these bytes (and the stream's end)."""
        first = stream.buffer.start
        stream.acknowledged(start, stop, fin)
        freed = stream.buffer.start - first
        if freed:
            if stream.reset_code is not None:  # what a reset does not promise was given up with it
                freed = max(min(stream.buffer.start, stream.reliable) - first, 0)
            self._free(freed)

    def _free(self, count: int) -> None:
        """So many bytes that were sent are kept no longer."""
        if self.bytes_kept >= MAX_BYTES_KEPT:
            self.schedule.unblock()
        self.bytes_kept -= count

    def credit(self) -> int:
        """New bytes that may be sent now, whatever a stream's own window says."""
        return min(self.send_window.left, MAX_BYTES_KEPT - self.bytes_kept)

    def peer_raises_streams(self, limit: int, unidirectional: bool) -> bool:
        """MAX_STREAMS: True if more can be opened now, and the application waits for it."""
        before = self._local_limit[unidirectional]
        if limit <= before:
            return False
        self._local_limit[unidirectional] = limit
        if self._next_local[unidirectional] > before:  # opened by remembered limits, and held back since
            for pair in self._streams.values():
                if pair.send is not None and self._allowed(pair.stream_id):
                    self.schedule.add(pair.send)
        refused, self._refused[unidirectional] = self._refused[unidirectional], False
        return refused

    # What happens to streams

    def limit_for_peer(self, unidirectional: bool) -> int:
        """The number of streams that the peer may open: what MAX_STREAMS says."""
        return self._peer_limit[unidirectional]

    def local_limit(self, unidirectional: bool) -> int:
        """The number of streams that we may open: what STREAMS_BLOCKED says."""
        return self._local_limit[unidirectional]

    def forget_if_finished(self, stream_id: int) -> bool:
        """Drop a finished stream, and give the peer credit for another one in its place."""
        pair = self._streams.get(stream_id)
        if pair is None:
            return False
        send, recv = pair.send, pair.recv
        if (send is not None and not send.finished) or (recv is not None and not recv.finished):
            return False
        del self._streams[stream_id]
        if send is not None:
            self.schedule.remove(send)
        if stream_id & SERVER_INITIATED != self._local_bit:
            kind = (stream_id >> 1) & 1
            self._peer_finished[kind] += 1
            limit = self._peer_finished[kind] + self._peer_window[kind]
            if 2 * (limit - self._peer_limit[kind]) >= self._peer_window[kind]:
                self._peer_limit[kind] = limit
                self.control[(MAX_STREAMS_UNI if kind else MAX_STREAMS_BIDI, 0)] = None
        return True

    def _create(self, stream_id: int) -> StreamPair:
        kind = stream_id & 3
        send = recv = None
        limit = self._send_limits.get(kind)
        if limit is not None:
            send = SendStream(stream_id, SendWindow(limit))
        size = self._receive_sizes.get(kind)
        if size is not None:
            recv = ReceiveStream(stream_id, ReceiveWindow(size, self._stream_cap))
        pair = self._streams[stream_id] = StreamPair(stream_id, send, recv)
        return pair


def _limits(ours: TransportParameters, local: int) -> dict[int, int]:
    """What the side whose parameters these are takes on new streams, by the two lowest bits of their IDs.

    `local` is the bit of the streams that this side opens (RFC 9000 section 18.2).
    """
    remote = local ^ SERVER_INITIATED
    return {
        local: ours.initial_max_stream_data_bidi_local,
        remote: ours.initial_max_stream_data_bidi_remote,
        remote | UNIDIRECTIONAL: ours.initial_max_stream_data_uni,
    }


_NO_LIMITS = {bit: _limits(TransportParameters(), bit) for bit in (0, SERVER_INITIATED)}
"""What holds until the peer has said more: nothing may be sent."""


def _wrong_state(frame_type: int, reason: str) -> PeerError:
    return PeerError(ErrorCode.STREAM_STATE_ERROR, reason, frame_type=frame_type, section="RFC 9000 section 19")
