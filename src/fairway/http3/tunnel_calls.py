"""What an application does with WebTransport sessions and HTTP datagrams of a connection."""

from __future__ import annotations

from fairway.http3 import frames
from fairway.http3.message import Arriving, Leaving, Message
from fairway.http3.state import Http3State
from fairway.http3.webtransport import SESSION_GONE
from fairway.quic import UsageError
from fairway.wire import encode_varint, varint_length


class TunnelCalls:
    """The calls about sessions and datagrams of an `Http3Connection`. A caller's mistake is `UsageError`."""

    def __init__(self, state: Http3State) -> None:
        self._state = state

    def cannot_begin(self, session_id: int) -> bool:
        """True if no WebTransport session of this ID is asked for or goes on, nor can be asked for any more."""
        state = self._state
        return session_id not in state.messages and (state.is_client or session_id < state.next_request_id)

    def open_tunnel_stream(self, session_id: int, *, unidirectional: bool = False) -> int | None:
        """Open a stream of a WebTransport session; None while the peer allows no more (StreamsAvailable tells)."""
        stream_id = self._state.quic.open_stream(unidirectional=unidirectional)
        if stream_id is None:
            return None
        kind = frames.WEBTRANSPORT_UNI_STREAM if unidirectional else frames.WEBTRANSPORT_STREAM
        arriving = Arriving.ENDED if unidirectional else Arriving.TUNNEL
        message = self._state.messages[stream_id] = Message(stream_id, arriving, Leaving.TUNNEL)
        message.session_id = session_id
        self._state.quic.write(stream_id, encode_varint(kind) + encode_varint(session_id), whole=True)
        return stream_id

    def end_session(self, session_id: int) -> None:
        """A WebTransport session is over: so are its streams."""
        for message in [known for known in self._state.messages.values() if known.session_id == session_id]:
            self._state.abort(message, SESSION_GONE)

    def send_datagram(self, stream_id: int, data: bytes) -> bool:
        """Send an HTTP datagram of a request (RFC 9297); False if it was dropped since too many wait already."""
        if self._state.peer is None or not (self._state.peer.h3_datagram or self._state.peer.webtransport):
            raise UsageError("the peer takes no HTTP datagrams")
        return self._state.quic.send_datagram(encode_varint(stream_id >> 2) + data)

    def max_datagram_size(self, stream_id: int) -> int:
        """Bytes of the largest HTTP datagram that can be sent now; 0 if the peer takes none."""
        return max(self._state.quic.max_datagram_size - varint_length(stream_id >> 2), 0)
