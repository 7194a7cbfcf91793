"""A connection's streams: which exist, and which may be opened (RFC 9000 section 2 and 3).

`Incoming` and `Outgoing` do what is done with their bytes.
"""

from __future__ import annotations

from fairway.quic.errors import ErrorCode, PeerError, UsageError
from fairway.quic.frames import (
    MAX_STREAMS_BIDI,
    MAX_STREAMS_UNI,
    STREAMS_BLOCKED_BIDI,
    STREAMS_BLOCKED_UNI,
)
from fairway.quic.streams.flow_control import ReceiveWindow, SendWindow
from fairway.quic.streams.numbers import LocalNumbers, PeerNumbers
from fairway.quic.streams.recv import ReceiveStream
from fairway.quic.streams.schedule import Schedule
from fairway.quic.streams.send import SendStream
from fairway.quic.transport_parameters import TransportParameters

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
        "_local", "_local_bit", "_peer", "_receive_sizes", "_send_limits", "_stream_cap", "_streams", "control",
        "opened", "schedule",
    )  # fmt: skip

    def __init__(self, *, is_client: bool, local: TransportParameters, stream_cap: int) -> None:
        self._local_bit = 0 if is_client else SERVER_INITIATED
        # By the two lowest bits of a stream's ID; absent where that half does not exist.
        self._receive_sizes = _limits(local, self._local_bit)
        self._send_limits = _NO_LIMITS[self._local_bit ^ SERVER_INITIATED]
        self._stream_cap = stream_cap
        self._streams: dict[int, StreamPair] = {}
        self.schedule = Schedule()
        self.control: dict[ControlKey, None] = {}
        """Control frames about streams that wait to be sent, in order."""
        self.opened: list[int] = []
        """Streams that the peer opened, for the events."""
        # Indexed by the UNIDIRECTIONAL bit: False and True.
        self._local = (LocalNumbers(), LocalNumbers())
        self._peer = (PeerNumbers(local.initial_max_streams_bidi), PeerNumbers(local.initial_max_streams_uni))

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._streams

    @property
    def opened_ever(self) -> tuple[int, int]:
        """Streams that we opened, and that the peer opened, in all."""
        return sum([numbers.next for numbers in self._local]), sum([numbers.next for numbers in self._peer])

    def set_peer(self, parameters: TransportParameters) -> None:
        """The peer's limits are known."""
        self._send_limits = _limits(parameters, self._local_bit ^ SERVER_INITIATED)
        bidirectional, unidirectional = self._local
        bidirectional.limit = parameters.initial_max_streams_bidi
        unidirectional.limit = parameters.initial_max_streams_uni
        for pair in self._streams.values():
            if pair.send is not None:
                pair.send.window.raise_limit(self._send_limits[pair.stream_id & 3])
                if self._allowed(pair.stream_id):
                    self.schedule.add(pair.send)
        self.schedule.unblock()

    def forget_peer(self) -> None:
        """The peer's limits as they were remembered hold no more; `set_peer` follows. Until then nothing is sent."""
        self._send_limits = dict.fromkeys(self._send_limits, 0)
        for numbers in self._local:
            numbers.limit = 0
        for pair in self._streams.values():
            if pair.send is not None:
                pair.send.window.limit = 0
                self.schedule.remove(pair.send)

    def rewind(self) -> None:
        """All of what was sent on any stream is to be sent as new."""
        for pair in self._streams.values():
            if pair.send is not None:
                pair.send.rewind()
                self.schedule.add(pair.send)
        self.schedule.unblock()

    def _allowed(self, stream_id: int) -> bool:
        """Whether the peer lets us use a stream: those opened by remembered limits may be too many (0-RTT)."""
        if stream_id & SERVER_INITIATED != self._local_bit:
            return True
        return stream_id >> 2 < self._local[(stream_id >> 1) & 1].limit

    # What the application does

    def open(self, unidirectional: bool) -> StreamPair | None:
        """Open a stream; None while the peer's limit allows no more."""
        number = self._local[unidirectional].take()
        if number is None:
            self.control[(STREAMS_BLOCKED_UNI if unidirectional else STREAMS_BLOCKED_BIDI, 0)] = None
            return None
        return self._create((number << 2) | self._local_bit | (UNIDIRECTIONAL if unidirectional else 0))

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

    # What the peer does

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
        number, direction = stream_id >> 2, (stream_id >> 1) & 1
        if stream_id & SERVER_INITIATED == self._local_bit:
            if number >= self._local[direction].next:
                raise _wrong_state(frame_type, f"stream {stream_id} was not opened")
            return None
        peer = self._peer[direction]
        if number < peer.next:
            return None
        if number >= peer.limit:
            raise PeerError(
                ErrorCode.STREAM_LIMIT_ERROR,
                f"stream {stream_id} is past the limit of {peer.limit}",
                frame_type=frame_type,
                section="RFC 9000 section 4.6",
            )
        for opened in range(peer.next, number + 1):  # section 3.2: opens all lower ones
            pair = self._create((opened << 2) | (stream_id & 3))
            self.opened.append(pair.stream_id)
        peer.next = number + 1
        return pair

    def peer_raises_streams(self, limit: int, unidirectional: bool) -> bool:
        """MAX_STREAMS: True if more can be opened now, and the application waits for it."""
        numbers = self._local[unidirectional]
        before = numbers.limit
        if limit <= before:
            return False
        numbers.limit = limit
        if numbers.next > before:  # opened by remembered limits, and held back since
            for pair in self._streams.values():
                if pair.send is not None and self._allowed(pair.stream_id):
                    self.schedule.add(pair.send)
        refused, numbers.refused = numbers.refused, False
        return refused

    # What happens to streams

    def limit_for_peer(self, unidirectional: bool) -> int:
        """The number of streams that the peer may open: what MAX_STREAMS says."""
        return self._peer[unidirectional].limit

    def local_limit(self, unidirectional: bool) -> int:
        """The number of streams that we may open: what STREAMS_BLOCKED says."""
        return self._local[unidirectional].limit

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
            direction = (stream_id >> 1) & 1
            if self._peer[direction].finish():
                self.control[(MAX_STREAMS_UNI if direction else MAX_STREAMS_BIDI, 0)] = None
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
