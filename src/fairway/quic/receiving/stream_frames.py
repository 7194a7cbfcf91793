"""STREAM frames that arrive one after the other in a packet, as small requests do: parsed and acted on without objects.

`frames.Stream` says the same for one frame; `gather` is for packets that carry nothing but a piece of one stream.
"""

from __future__ import annotations

from fairway.quic.errors import PeerError, bad_encoding
from fairway.quic.events import StreamDiscarded, StreamReadable, StreamResetReceived
from fairway.quic.frames import MAX_OFFSET, STREAM, STREAM_FIN, STREAM_LEN, STREAM_OFF
from fairway.quic.state import ConnectionState
from fairway.wire import WireError, decode_varint

STREAM_MASK = 0xF8  # the bits of a STREAM frame's type that are always the same


def take_streams(state: ConnectionState, payload: bytes, at: int) -> int:
    """Act on the STREAM frames from `at` on; the offset of the first other frame, or the payload's end."""
    size = len(payload)
    kind = STREAM
    try:
        while at < size and payload[at] & STREAM_MASK == STREAM:
            kind = payload[at]
            stream_id, at = decode_varint(payload, at + 1)
            offset = 0
            if kind & STREAM_OFF:
                offset, at = decode_varint(payload, at)
            end = size
            if kind & STREAM_LEN:
                length = payload[at]
                if length < 0x40:  # the common case of a small piece, without a call
                    at += 1
                else:
                    length, at = decode_varint(payload, at)
                end = at + length
                if end > size:
                    raise WireError("STREAM data runs past the packet")
            if offset + end - at > MAX_OFFSET:
                raise bad_encoding(kind, "STREAM data passes 2^62 - 1")
            take_stream(state, stream_id, offset, payload[at:end], bool(kind & STREAM_FIN))
            at = end
    except (IndexError, WireError) as error:
        raise bad_encoding(kind, "the packet ends within a frame") from error
    except PeerError as error:
        error.frame_type = error.frame_type or kind
        raise
    return at


def take_stream(state: ConnectionState, stream_id: int, offset: int, data: bytes, fin: bool) -> None:
    """A piece of a stream arrived (RFC 9000 section 19.8)."""
    streams = state.streams
    stream = streams.for_receiving(stream_id, STREAM)
    if stream is None:
        return
    resetting = stream.reset_code is not None and not stream.reset_received
    state.incoming.receive(stream, offset, data, fin)
    if stream.finished:  # which it is only if nobody reads it
        state.events.append(StreamDiscarded(stream_id, stream.window.highest))
        streams.forget_if_finished(stream_id)
        return
    if not stream.notified and stream.readable:
        stream.notified = True
        state.events.append(StreamReadable(stream_id))
    if resetting and stream.reset_received and stream.reset_code is not None and stream.final_size is not None:
        state.events.append(StreamResetReceived(stream_id, stream.reset_code, stream.final_size))
