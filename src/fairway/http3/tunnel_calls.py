"""What an application does with WebTransport sessions and HTTP datagrams of a connection.

Sections without a name are those of draft-ietf-webtrans-http3-16.
"""

from __future__ import annotations

from fairway.http3 import frames
from fairway.http3.capsules import Capsule
from fairway.http3.errors import H3Code
from fairway.http3.message import Arriving, Leaving, Message
from fairway.http3.state import Http3State
from fairway.http3.webtransport import OLDER_PROTOCOL, PROTOCOL, missing
from fairway.quic import UsageError
from fairway.wire import encode_varint, varint_length


class TunnelCalls:
    """The calls about sessions and datagrams of an `Http3Connection`. A caller's mistake is `UsageError`."""

    def __init__(self, state: Http3State) -> None:
        self._state = state

    @property
    def session_protocol(self) -> bytes:
        """What a client asks for in `:protocol`: the current WebTransport, or an older draft's if only that is spoken.

        `UsageError`, which says what is missing, if this connection can have no sessions; the settings must be there.
        """
        state = self._state
        if not state.local.webtransport:
            raise UsageError("the connection was made without webtransport=True")
        peer = state.peer
        if peer is None or not peer.webtransport or not peer.enable_connect_protocol:
            raise UsageError("the server does not speak WebTransport: its settings say nothing of it")
        lacking = missing(peer, state.quic.peer_parameters)
        if state.local.wt_enabled and not lacking:
            return PROTOCOL
        if not (peer.webtransport_draft_02 or peer.webtransport_draft_07):
            raise UsageError(f"the server speaks WebTransport, but lacks {lacking}")
        return OLDER_PROTOCOL

    def takes_session(self, protocol: bytes) -> bool:
        """True if a client may ask for a session with this `:protocol`, by what it has announced (section 3.1)."""
        state = self._state
        if not state.local.webtransport or state.peer is None:
            return False
        if protocol == PROTOCOL:
            return state.local.wt_enabled and not missing(state.peer, state.quic.peer_parameters)
        return protocol == OLDER_PROTOCOL

    @property
    def sessions_limited(self) -> bool:
        """True if there is flow control within sessions; else there may be one session at a time (section 5.1)."""
        return self._state.sessions.limited

    def begin_session(self, session_id: int, *, protocol: bytes = PROTOCOL) -> None:
        """A session stands: the server has granted it. Before this none of its streams is to be opened."""
        self._state.sessions.begin(session_id, limited=protocol == PROTOCOL)

    def cannot_begin(self, session_id: int) -> bool:
        """True if no WebTransport session of this ID is asked for or goes on, nor can be asked for any more."""
        state = self._state
        return session_id not in state.messages and (state.is_client or session_id < state.next_request_id)

    def open_tunnel_stream(self, session_id: int, *, unidirectional: bool = False) -> int | None:
        """Open a stream of a WebTransport session; None while the peer allows no more (StreamsAvailable tells)."""
        state = self._state
        if not state.sessions.may_open(session_id, unidirectional=unidirectional):
            return None
        stream_id = state.quic.open_stream(unidirectional=unidirectional)
        if stream_id is None:
            return None
        kind = frames.WEBTRANSPORT_UNI_STREAM if unidirectional else frames.WEBTRANSPORT_STREAM
        arriving = Arriving.ENDED if unidirectional else Arriving.TUNNEL
        message = state.messages[stream_id] = Message(stream_id, arriving, Leaving.TUNNEL)
        message.session_id = session_id
        prefix = encode_varint(kind) + encode_varint(session_id)
        message.prefix_sent = len(prefix)
        state.quic.write(stream_id, prefix, whole=True)
        state.quic.commit(stream_id)  # section 4.4: the peer learns of which session the stream was, even if reset
        state.sessions.opened_here(session_id, unidirectional=unidirectional)
        return stream_id

    def send_capsule(self, session_id: int, capsule: Capsule, *, end: bool = False) -> None:
        """Send a capsule on a session's own stream, and with `end` the stream's end."""
        self._state.sessions.send(session_id, capsule, end=end)

    def take_capsule(self, session_id: int, capsule: Capsule) -> None:
        """Act on a flow control capsule that was read on a session's stream.

        `MessageError` if it breaks a rule: the stream is to be given up with its code.
        """
        self._state.sessions.take(session_id, capsule)

    def end_session(self, session_id: int) -> None:
        """A WebTransport session is over: so are its streams."""
        for message in [known for known in self._state.messages.values() if known.session_id == session_id]:
            self._state.abort(message, H3Code.WT_SESSION_GONE)

    def send_datagram(self, stream_id: int, data: bytes) -> bool:
        """Send an HTTP datagram of a request (RFC 9297 section 2.1).

        False if it was dropped: too many wait already, or the sending side of the stream is over. `UsageError` unless
        both sides' settings allow datagrams, and for a request of a method that has none.
        """
        state = self._state
        if state.peer is None or not (state.peer.h3_datagram or state.peer.webtransport):
            raise UsageError("the peer takes no HTTP datagrams")
        if not state.local.h3_datagram:
            raise UsageError("our own settings do not say h3_datagram, without which none may be sent")
        message = state.messages.get(stream_id)
        if message is None or message.leaving is Leaving.ENDED:
            return False
        if message.protocol is None:
            raise UsageError(f"stream {stream_id} is no extended CONNECT: nothing else has datagrams")
        return state.quic.send_datagram(encode_varint(stream_id >> 2) + data)

    def max_datagram_size(self, stream_id: int) -> int:
        """Bytes of the largest HTTP datagram that can be sent now; 0 if the peer takes none."""
        return max(self._state.quic.max_datagram_size - varint_length(stream_id >> 2), 0)
