"""What each frame means to a connection: a table of frame type to handler and the spaces it may arrive in.

RFC 9000 table 3 gives the spaces. STREAM, ACK and CRYPTO are handled by `receiver` beside the table, without objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairway.quic import ack_frames, ack_frequency, frames
from fairway.quic.closing import closed_by_peer
from fairway.quic.connection_ids import RemoteIds
from fairway.quic.delivery import Delivery
from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.events import (
    StopSendingReceived,
    StreamResetReceived,
    StreamsAvailable,
    TokenReceived,
)
from fairway.quic.handshake.handshake import Handshake, confirm
from fairway.quic.limits import MAX_NEW_TOKENS, MAX_RESETS_PER_SECOND, MAX_TOKEN_BYTES
from fairway.quic.paths.migration import Migration
from fairway.quic.receiving.stream_frames import take_stream
from fairway.quic.spaces import PacketSpace, SpaceKind
from fairway.quic.state import ConnectionState
from fairway.wire import Reader

_I, _H, _A = (1 << SpaceKind.INITIAL, 1 << SpaceKind.HANDSHAKE, 1 << SpaceKind.APPLICATION)
_ALL = _I | _H | _A

NOT_ELICITING = frozenset(
    {frames.PADDING, ack_frames.ACK, ack_frames.ACK_ECN, frames.CONNECTION_CLOSE, frames.CONNECTION_CLOSE_APPLICATION}
)  # RFC 9000 table 3: "N"


class FrameHandlers:
    """Acts on frames; one method a frame, reached through `TABLE`."""

    __slots__ = (
        "_delivery",
        "_handshake",
        "_migration",
        "_resets",
        "_resets_since",
        "_state",
        "_tokens",
        "destination",
    )

    def __init__(self, state: ConnectionState, delivery: Delivery, handshake: Handshake, migration: Migration) -> None:
        self._state = state
        self._delivery = delivery
        self._handshake = handshake
        self._tokens = 0
        self._resets, self._resets_since = 0, 0.0
        self._migration = migration
        self.destination = b""
        """Our connection ID that the packet at hand is addressed to."""

    def handle(self, reader: Reader, space: PacketSpace, now: float) -> bool:
        """Decode and act on the frame that `reader` stands at; True if it asks for an acknowledgement."""
        frame_type, frame = frames.decode_frame(reader)
        handler, allowed = TABLE[frame_type]
        if not allowed & (1 << space.kind):
            raise _violation(frame_type, f"frame {frame_type:#x} in a {space.kind.name} packet", "12.4")
        try:
            handler(self, frame, space, now)
        except PeerError as error:
            error.frame_type = error.frame_type or frame_type
            raise
        return frame_type not in NOT_ELICITING

    def ack(self, frame: ack_frames.Ack, space: PacketSpace, now: float) -> None:
        """ACK."""
        counts = None if frame.ecn is None else (frame.ecn.ect0, frame.ecn.ect1, frame.ecn.ce)
        self._delivery.on_ack(space, frame.ranges, frame.delay, now, counts)

    def ack_frequency(self, frame: ack_frames.AckFrequency, space: PacketSpace, now: float) -> None:
        """ACK_FREQUENCY (draft-ietf-quic-ack-frequency-14 section 4)."""
        ack_frequency.obey(self._state, frame)

    def immediate_ack(self, frame: ack_frames.ImmediateAck, space: PacketSpace, now: float) -> None:
        """IMMEDIATE_ACK (draft-ietf-quic-ack-frequency-14 section 5)."""
        space.received.ack_now = True

    def ignore(self, frame: object, space: PacketSpace, now: float) -> None:
        """PADDING, PING and the *_BLOCKED frames ask for nothing but an acknowledgement."""

    def reset_stream(self, frame: frames.ResetStream | frames.ResetStreamAt, space: PacketSpace, now: float) -> None:
        """RESET_STREAM (section 19.4) and RESET_STREAM_AT (draft-ietf-quic-reliable-stream-reset section 4)."""
        state = self._state
        reliable_size, kind = 0, frames.RESET_STREAM
        if isinstance(frame, frames.ResetStreamAt):
            reliable_size, kind = frame.reliable_size, frames.RESET_STREAM_AT
        stream = state.streams.for_receiving(frame.stream_id, kind)
        if stream is None:
            return
        before, told = stream.reset_code, stream.reset_received
        state.incoming.received_reset(stream, frame.final_size, frame.code, reliable_size)
        if stream.reset_code is not None and before is None:
            self._count_reset(now)
        if stream.reset_received and not told:
            state.events.append(StreamResetReceived(frame.stream_id, frame.code, frame.final_size))

    def _count_reset(self, now: float) -> None:
        if now - self._resets_since > 1.0:
            self._resets_since, self._resets = now, 0
        self._resets += 1
        if self._resets > MAX_RESETS_PER_SECOND:
            raise PeerError(
                ErrorCode.PROTOCOL_VIOLATION,
                "streams are reset faster than is allowed",
                frame_type=frames.RESET_STREAM,
                section="RFC 9000 section 21.9",
            )

    def stop_sending(self, frame: frames.StopSending, space: PacketSpace, now: float) -> None:
        """STOP_SENDING: answer with RESET_STREAM (section 3.5)."""
        stream = self._state.streams.for_sending(frame.stream_id, frames.STOP_SENDING)
        if stream is not None and not stream.finished and stream.reset_code is None:
            self._state.outgoing.reset(frame.stream_id, frame.code)
            self._state.events.append(StopSendingReceived(frame.stream_id, frame.code))

    def crypto(self, frame: frames.Crypto, space: PacketSpace, now: float) -> None:
        """CRYPTO."""
        self._handshake.receive(space, frame.offset, frame.data, now)

    def new_token(self, frame: frames.NewToken, space: PacketSpace, now: float) -> None:
        """NEW_TOKEN (section 19.7)."""
        if not self._state.is_client:
            raise _violation(frames.NEW_TOKEN, "a client sent NEW_TOKEN", "19.7")
        if len(frame.token) <= MAX_TOKEN_BYTES and self._tokens < MAX_NEW_TOKENS:
            self._tokens += 1
            if self._state.server is not None:
                self._state.server.save_token(frame.token, self._state.version)
            self._state.events.append(TokenReceived(frame.token))

    def stream(self, frame: frames.Stream, space: PacketSpace, now: float) -> None:
        """STREAM (section 19.8)."""
        take_stream(self._state, frame.stream_id, frame.offset, frame.data, frame.fin)

    def max_data(self, frame: frames.MaxData, space: PacketSpace, now: float) -> None:
        """MAX_DATA (section 19.9)."""
        if self._state.outgoing.window.raise_limit(frame.limit):
            self._state.streams.schedule.unblock()

    def max_stream_data(self, frame: frames.MaxStreamData, space: PacketSpace, now: float) -> None:
        """MAX_STREAM_DATA (section 19.10)."""
        streams = self._state.streams
        stream = streams.for_sending(frame.stream_id, frames.MAX_STREAM_DATA)
        if stream is not None and stream.window.raise_limit(frame.limit):
            streams.schedule.add(stream)

    def max_streams(self, frame: frames.MaxStreams, space: PacketSpace, now: float) -> None:
        """MAX_STREAMS (section 19.11)."""
        if self._state.streams.peer_raises_streams(frame.limit, frame.unidirectional):
            self._state.events.append(StreamsAvailable(frame.unidirectional))

    def stream_data_blocked(self, frame: frames.StreamDataBlocked, space: PacketSpace, now: float) -> None:
        """STREAM_DATA_BLOCKED (section 19.13): only the stream's direction is checked."""
        self._state.streams.for_receiving(frame.stream_id, frames.STREAM_DATA_BLOCKED)

    def datagram(self, frame: frames.Datagram, space: PacketSpace, now: float) -> None:
        """DATAGRAM (RFC 9221 section 3 and 5)."""
        limit = self._state.local_parameters.max_datagram_frame_size
        if frame.size > limit:
            reason = f"larger than the {limit} bytes that we take" if limit else "we take none"
            raise PeerError(
                ErrorCode.PROTOCOL_VIOLATION,
                f"a DATAGRAM frame: {reason}",
                frame_type=frames.DATAGRAM,
                section="RFC 9221 section 3",
            )
        self._state.use_datagrams().receive(frame.data)

    def new_connection_id(self, frame: frames.NewConnectionId, space: PacketSpace, now: float) -> None:
        """NEW_CONNECTION_ID (section 19.15)."""
        remote: RemoteIds = self._state.remote_ids
        for key in remote.add(frame):
            self._state.control[key] = None

    def retire_connection_id(self, frame: frames.RetireConnectionId, space: PacketSpace, now: float) -> None:
        """RETIRE_CONNECTION_ID (section 19.16)."""
        for key in self._state.local_ids.retire(frame.sequence, self.destination):
            self._state.control[key] = None

    def path_challenge(self, frame: frames.PathChallenge, space: PacketSpace, now: float) -> None:
        """PATH_CHALLENGE (section 8.2.2): the oldest of too many is dropped."""
        self._state.arrival.answer(frame.data)
        self._state.probing = True

    def path_response(self, frame: frames.PathResponse, space: PacketSpace, now: float) -> None:
        """PATH_RESPONSE (section 19.18)."""
        self._migration.on_response(frame.data, now)

    def connection_close(self, frame: frames.ConnectionClose, space: PacketSpace, now: float) -> None:
        """CONNECTION_CLOSE (section 10.2)."""
        closed_by_peer(self._state, frame, now)

    def handshake_done(self, frame: frames.HandshakeDone, space: PacketSpace, now: float) -> None:
        """HANDSHAKE_DONE (section 19.20)."""
        if not self._state.is_client:
            raise _violation(frames.HANDSHAKE_DONE, "a client sent HANDSHAKE_DONE", "19.20")
        confirm(self._state)


Handler = Callable[[FrameHandlers, Any, PacketSpace, float], None]
_F = FrameHandlers

TABLE: dict[int, tuple[Handler, int]] = {
    frames.PADDING: (_F.ignore, _ALL),
    frames.PING: (_F.ignore, _ALL),
    ack_frames.ACK: (_F.ack, _ALL),
    ack_frames.ACK_ECN: (_F.ack, _ALL),
    ack_frames.ACK_FREQUENCY: (_F.ack_frequency, _A),
    ack_frames.IMMEDIATE_ACK: (_F.immediate_ack, _A),
    frames.RESET_STREAM: (_F.reset_stream, _A),
    frames.STOP_SENDING: (_F.stop_sending, _A),
    frames.CRYPTO: (_F.crypto, _ALL),
    frames.NEW_TOKEN: (_F.new_token, _A),
    **dict.fromkeys(range(frames.STREAM, frames.STREAM + 8), (_F.stream, _A)),
    frames.MAX_DATA: (_F.max_data, _A),
    frames.MAX_STREAM_DATA: (_F.max_stream_data, _A),
    frames.MAX_STREAMS_BIDI: (_F.max_streams, _A),
    frames.MAX_STREAMS_UNI: (_F.max_streams, _A),
    frames.DATA_BLOCKED: (_F.ignore, _A),
    frames.STREAM_DATA_BLOCKED: (_F.stream_data_blocked, _A),
    frames.STREAMS_BLOCKED_BIDI: (_F.ignore, _A),
    frames.STREAMS_BLOCKED_UNI: (_F.ignore, _A),
    frames.NEW_CONNECTION_ID: (_F.new_connection_id, _A),
    frames.RETIRE_CONNECTION_ID: (_F.retire_connection_id, _A),
    frames.PATH_CHALLENGE: (_F.path_challenge, _A),
    frames.PATH_RESPONSE: (_F.path_response, _A),
    frames.CONNECTION_CLOSE: (_F.connection_close, _ALL),
    frames.CONNECTION_CLOSE_APPLICATION: (_F.connection_close, _A),
    frames.HANDSHAKE_DONE: (_F.handshake_done, _A),
    frames.RESET_STREAM_AT: (_F.reset_stream, _A),
    frames.DATAGRAM: (_F.datagram, _A),
    frames.DATAGRAM | frames.DATAGRAM_LEN: (_F.datagram, _A),
}


def _violation(frame_type: int, reason: str, section: str) -> PeerError:
    return PeerError(ErrorCode.PROTOCOL_VIOLATION, reason, frame_type=frame_type, section=f"RFC 9000 section {section}")
