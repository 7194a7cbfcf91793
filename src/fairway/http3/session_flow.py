"""Flow control within one WebTransport session, in both directions (draft-ietf-webtrans-http3-16 section 5).

Data and streams of a session are limited beside QUIC's own limits, so that one session does not starve the others of
its connection. Pure counting: who counts what is in `sessions`.
"""

from __future__ import annotations

from fairway.http3.capsules import (
    WT_DATA_BLOCKED,
    WT_MAX_DATA,
    WT_MAX_STREAMS_BIDI,
    WT_MAX_STREAMS_UNI,
    WT_STREAMS_BLOCKED_BIDI,
    WT_STREAMS_BLOCKED_UNI,
)
from fairway.http3.errors import H3Code, MessageError
from fairway.http3.settings import Settings
from fairway.wire import WireError, decode_varint

MAX_STREAMS = 1 << 60  # section 5.6.2: no stream ID can be greater

_RAISES = {WT_MAX_DATA: "data", WT_MAX_STREAMS_BIDI: "bidirectional", WT_MAX_STREAMS_UNI: "unidirectional"}
_BLOCKED = frozenset({WT_DATA_BLOCKED, WT_STREAMS_BLOCKED_BIDI, WT_STREAMS_BLOCKED_UNI})


def flow_error(reason: str, section: str) -> MessageError:
    """What ends a session whose peer does not keep to its limits."""
    return MessageError(
        reason, code=H3Code.WT_FLOW_CONTROL_ERROR, section=f"draft-ietf-webtrans-http3-16 section {section}"
    )


class Credit:
    """What the peer lets us do: so much in all."""

    __slots__ = ("limit", "told", "used")

    def __init__(self) -> None:
        self.limit = 0
        self.used = 0
        self.told = -1
        """The limit at which the peer was told that we are blocked."""

    @property
    def left(self) -> int:
        """How much more."""
        return max(self.limit - self.used, 0)

    def should_tell(self) -> bool:
        """True once for each limit: the peer learns that it holds us up."""
        if self.told == self.limit:
            return False
        self.told = self.limit
        return True


class Window:
    """What we let the peer do: `size` more than what is done with."""

    __slots__ = ("arrived", "done", "limit", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.limit = size
        self.arrived = 0
        self.done = 0

    @property
    def exceeded(self) -> bool:
        """True if the peer did more than it may."""
        return self.arrived > self.limit

    def raised(self) -> int | None:
        """The new limit that is worth telling the peer; None while more than half of the window is left."""
        limit = self.done + self.size
        if 2 * (limit - self.limit) < self.size or limit == self.limit:
            return None
        self.limit = limit
        return limit


class SessionFlow:
    """The limits of a session. Streams are indexed by False and True: bidirectional and unidirectional."""

    __slots__ = ("begun", "credit", "data", "stream_credit", "streams")

    def __init__(self, local: Settings) -> None:
        self.begun = False
        """True once the session stands: before, nothing is told and nothing is held against the peer."""
        self.credit = Credit()
        self.stream_credit = (Credit(), Credit())
        self.data = Window(local.wt_initial_max_data)
        self.streams = (Window(local.wt_initial_max_streams_bidi), Window(local.wt_initial_max_streams_uni))

    def begin(self, peer: Settings) -> None:
        """The session stands, between us and a peer of these settings."""
        self.begun = True
        self.credit.limit = peer.wt_initial_max_data
        self.stream_credit[False].limit = peer.wt_initial_max_streams_bidi
        self.stream_credit[True].limit = peer.wt_initial_max_streams_uni

    def check(self) -> None:
        """`MessageError` if the peer has gone beyond a limit."""
        if not self.begun:
            return
        if self.data.exceeded:
            raise flow_error(f"{self.data.arrived} bytes where {self.data.limit} are allowed", "5.6.4")
        for unidirectional, window in enumerate(self.streams):
            if window.exceeded:
                kind = "unidirectional" if unidirectional else "bidirectional"
                raise flow_error(f"{window.arrived} {kind} streams where {window.limit} are allowed", "5.6.2")

    def take(self, kind: int, value: bytes) -> None:
        """Act on a flow control capsule; `MessageError` if it is none, or takes back what was allowed."""
        if kind not in _RAISES and kind not in _BLOCKED:
            raise flow_error("a limit of one stream, which only QUIC has", "5.4")
        try:
            limit, after = decode_varint(value, 0)
        except WireError:
            limit, after = 0, -1
        if after != len(value):
            raise MessageError("a flow control capsule that is not one integer", section="RFC 9297 section 3.3")
        if kind not in (WT_MAX_DATA, WT_DATA_BLOCKED) and limit > MAX_STREAMS:
            raise flow_error(f"a limit of {limit} streams", "5.6.3" if kind in _BLOCKED else "5.6.2")
        if kind in _BLOCKED:
            return  # it may not be waited for (section 5.6)
        credit = self.credit if kind == WT_MAX_DATA else self.stream_credit[kind == WT_MAX_STREAMS_UNI]
        if limit <= credit.limit:
            raise flow_error(f"the limit of {_RAISES[kind]} goes from {credit.limit} to {limit}", "5.6.2 and 5.6.4")
        credit.limit = limit
