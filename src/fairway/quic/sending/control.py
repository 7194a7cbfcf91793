"""Control frames that wait to be sent: from the key that stands for one to its bytes at the time of sending.

A key is a frame type and what it is about (a stream, a sequence number, or 0). The values are looked up when the
frame is built, so what is repeated after a loss is never stale (RFC 9000 section 13.3).
"""

from __future__ import annotations

from collections.abc import Callable

from fairway.quic import ack_frequency, frames
from fairway.quic.ack_frames import ACK_FREQUENCY
from fairway.quic.state import ConnectionState


def _reset_stream(state: ConnectionState, stream_id: int, now: float) -> frames.Frame | None:
    pair = state.streams.get(stream_id)
    if pair is None or pair.send is None or pair.send.reset_code is None or pair.send.finished:
        return None
    stream = pair.send
    if stream.reliable > stream.buffer.sent:
        return None  # due again once those bytes are sent: until then the window might have no room for them
    if stream.reliable:
        return frames.ResetStreamAt(stream_id, pair.send.reset_code, stream.buffer.sent, stream.reliable)
    return frames.ResetStream(stream_id, pair.send.reset_code, stream.buffer.sent)


def _stop_sending(state: ConnectionState, stream_id: int, now: float) -> frames.Frame | None:
    pair = state.streams.get(stream_id)
    if pair is None or pair.recv is None or pair.recv.stop_code is None or pair.recv.final_size is not None:
        return None
    return frames.StopSending(stream_id, pair.recv.stop_code)


def _max_data(state: ConnectionState, _: int, now: float) -> frames.Frame | None:
    window = state.incoming.window
    if window.wants_raise:
        window.raise_limit(now, state.path.rtt.smoothed)
    return frames.MaxData(window.limit)


def _max_stream_data(state: ConnectionState, stream_id: int, now: float) -> frames.Frame | None:
    pair = state.streams.get(stream_id)
    if pair is None or pair.recv is None or pair.recv.final_size is not None:
        return None
    window = pair.recv.window
    if window.wants_raise:
        window.raise_limit(now, state.path.rtt.smoothed)
    return frames.MaxStreamData(stream_id, window.limit)


def _max_streams(unidirectional: bool) -> Renderer:
    def render_limit(state: ConnectionState, _: int, now: float) -> frames.Frame | None:
        return frames.MaxStreams(state.streams.limit_for_peer(unidirectional), unidirectional)

    return render_limit


def _streams_blocked(unidirectional: bool) -> Renderer:
    def render_blocked(state: ConnectionState, _: int, now: float) -> frames.Frame | None:
        return frames.StreamsBlocked(state.streams.local_limit(unidirectional), unidirectional)

    return render_blocked


def _stream_data_blocked(state: ConnectionState, stream_id: int, now: float) -> frames.Frame | None:
    pair = state.streams.get(stream_id)
    if pair is None or pair.send is None:
        return None
    return frames.StreamDataBlocked(stream_id, pair.send.window.limit)


def _new_connection_id(state: ConnectionState, sequence: int, now: float) -> frames.Frame | None:
    issued = state.local_ids.announce(sequence)
    if issued is None:
        return None
    return frames.NewConnectionId(sequence, 0, issued.connection_id, issued.reset_token)


def _new_token(state: ConnectionState, _: int, now: float) -> frames.Frame | None:
    if state.make_token is None or state.path.address is None:
        return None
    return frames.NewToken(state.make_token(state.path.address, state.version))


Renderer = Callable[[ConnectionState, int, float], frames.Frame | None]

RENDERERS: dict[int, Renderer] = {
    frames.PING: lambda state, _, now: frames.Ping(),
    frames.RESET_STREAM: _reset_stream,
    frames.STOP_SENDING: _stop_sending,
    frames.MAX_DATA: _max_data,
    frames.MAX_STREAM_DATA: _max_stream_data,
    frames.MAX_STREAMS_BIDI: _max_streams(False),
    frames.MAX_STREAMS_UNI: _max_streams(True),
    frames.DATA_BLOCKED: lambda state, _, now: frames.DataBlocked(state.outgoing.window.limit),
    frames.STREAM_DATA_BLOCKED: _stream_data_blocked,
    frames.STREAMS_BLOCKED_BIDI: _streams_blocked(False),
    frames.STREAMS_BLOCKED_UNI: _streams_blocked(True),
    frames.NEW_CONNECTION_ID: _new_connection_id,
    frames.RETIRE_CONNECTION_ID: lambda state, sequence, now: frames.RetireConnectionId(sequence),
    frames.NEW_TOKEN: _new_token,
    ACK_FREQUENCY: lambda state, _, now: ack_frequency.request(state),
    frames.HANDSHAKE_DONE: lambda state, _, now: frames.HandshakeDone(),
}


def render(state: ConnectionState, key: tuple[int, int], now: float) -> bytes | None:
    """The bytes of the control frame that `key` stands for; None if it no longer matters."""
    frame = RENDERERS[key[0]](state, key[1], now)
    return None if frame is None else frame.encode()
