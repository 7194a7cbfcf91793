"""What an application does with the unreliable datagrams of a connection (RFC 9221)."""

from __future__ import annotations

from fairway.quic.errors import ConnectionClosed, UsageError
from fairway.quic.packets.protection import TAG_LENGTH
from fairway.quic.state import ConnectionState

_HEADER = 1 + 4 + TAG_LENGTH  # a short header without its connection ID, the longest packet number, and the tag
_FRAME_TYPE = 1  # a DATAGRAM frame that reaches to the packet's end has no length


class DatagramCalls:
    """The calls about datagrams of a `Connection`. A caller's mistake is `UsageError`."""

    __slots__ = ()
    _state: ConnectionState

    @property
    def max_datagram_size(self) -> int:
        """Bytes of the largest datagram that can be sent now; 0 if the peer takes none, or before the handshake."""
        state = self._state
        limit = state.peer_parameters.max_datagram_frame_size
        if not limit or not state.handshake_complete:
            return 0
        return min(limit, state.path.packet_size - _HEADER - len(state.remote_ids.current)) - _FRAME_TYPE

    def send_datagram(self, data: bytes) -> bool:
        """Send `data` once, unreliably; False if it was dropped since too many wait to be sent already."""
        state = self._state
        if state.closing is not None:
            raise ConnectionClosed(state.closing)
        if not state.handshake_complete:
            raise UsageError("datagrams cannot be sent before the handshake is complete")
        if not state.peer_parameters.max_datagram_frame_size:
            raise UsageError("the peer takes no datagrams: its max_datagram_frame_size is 0 (RFC 9221 section 3)")
        limit = self.max_datagram_size
        if len(data) > limit:
            raise UsageError(f"a datagram of {len(data)} bytes: max_datagram_size is {limit} bytes now")
        return state.use_datagrams().waiting.offer(bytes(data))
