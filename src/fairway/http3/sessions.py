"""The WebTransport sessions of a connection, as far as they are limited: who has opened, sent and read how much.

A session is limited if both sides want it (draft-ietf-webtrans-http3-16 section 5.1). What counts is the content of
streams without the signal and session ID that they begin with, up to their final size, so that both sides agree
whatever is lost or given up (section 5.4).
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING

from fairway.http3 import frames
from fairway.http3.capsules import (
    WT_DATA_BLOCKED,
    WT_MAX_DATA,
    WT_MAX_STREAMS_BIDI,
    WT_MAX_STREAMS_UNI,
    WT_STREAMS_BLOCKED_BIDI,
    WT_STREAMS_BLOCKED_UNI,
    Capsule,
)
from fairway.http3.errors import MessageError
from fairway.http3.limits import MAX_COUNTED_SESSIONS
from fairway.http3.message import Leaving, Message
from fairway.http3.session_flow import SessionFlow
from fairway.quic import ConnectionClosed, UsageError
from fairway.quic.events import StreamsAvailable, StreamWritable
from fairway.wire import encode_varint

if TYPE_CHECKING:
    from fairway.http3.state import Http3State

_SERVER_INITIATED = 0x01
_UNIDIRECTIONAL = 0x02


class Sessions:
    """Counts for all sessions of a connection; gives up the request whose session's peer breaks its limits."""

    def __init__(self, state: Http3State) -> None:
        self._state: Http3State = weakref.proxy(state)  # whose part this is: neither is to wait for the collector
        self._flows: dict[int, SessionFlow | None] = {}
        """By the sessions' IDs; None for a session without limits."""
        self._waiting: dict[int, int] = {}
        """Streams whose writer waits for the session's credit, and their sessions."""
        self._stopped: dict[int, tuple[int, int]] = {}
        """Streams that are no longer read and not at their end: their session, and how far they were counted."""

    @property
    def limited(self) -> bool:
        """True if sessions of this connection are limited: both sides have said so."""
        local, peer = self._state.local, self._state.peer
        return peer is not None and local.limits_sessions and peer.limits_sessions

    def begin(self, session_id: int, *, limited: bool) -> None:
        """A session stands; what came of it before is counted already."""
        peer = self._state.peer
        flow = self._flow(session_id)
        if flow is None or peer is None or not (limited and self.limited):
            self._flows[session_id] = None
            return
        flow.begin(peer)
        self._settle(session_id, flow)

    def forget(self, session_id: int) -> None:
        """The session's request is over."""
        if self._flows.pop(session_id, None) is not None:
            self._waiting = {stream: session for stream, session in self._waiting.items() if session != session_id}

    def _flow(self, session_id: int) -> SessionFlow | None:
        """The session's limits, made when its first stream arrives, be it before the request; None without limits."""
        try:
            return self._flows[session_id]
        except KeyError:
            pass
        state = self._state
        if not state.local.limits_sessions or (state.peer is not None and not state.peer.limits_sessions):
            return None
        if session_id not in state.messages and (
            state.is_client or session_id < state.next_request_id or len(self._flows) >= MAX_COUNTED_SESSIONS
        ):
            return None  # it is over, or there are too many that nobody has asked for
        flow = self._flows[session_id] = SessionFlow(state.local)
        return flow

    def _of(self, message: Message) -> SessionFlow | None:
        return None if message.session_id is None else self._flow(message.session_id)

    def _settle(self, session_id: int, flow: SessionFlow) -> None:
        """Hold the peer to its limits, and raise them where it has used half of a window."""
        try:
            flow.check()
        except MessageError as error:
            self._violated(session_id, error)
            return
        if not flow.begun:
            return
        for kind, window in (
            (WT_MAX_DATA, flow.data),
            (WT_MAX_STREAMS_BIDI, flow.streams[False]),
            (WT_MAX_STREAMS_UNI, flow.streams[True]),
        ):
            limit = window.raised()
            if limit is not None:
                self.send(session_id, Capsule(kind, encode_varint(limit)))

    def _violated(self, session_id: int, error: MessageError) -> None:
        self.forget(session_id)
        message = self._state.messages.get(session_id)
        if message is not None:
            self._state.fail(message, error)

    def send(self, session_id: int, capsule: Capsule, *, end: bool = False) -> None:
        """Write a capsule on the session's own stream, whole: nothing may come between its bytes."""
        message = self._state.messages.get(session_id)
        if message is None or message.leaving is not Leaving.BODY:
            return
        encoded = capsule.encode()
        with contextlib.suppress(UsageError, ConnectionClosed):  # gone in QUIC before its events were told here
            self._state.quic.write(session_id, frames.encode(frames.DATA, encoded), end=end, whole=True)
        if end:
            message.leave(Leaving.ENDED)
            self._state.forget_if_over(message)

    # What the peer does

    def opened(self, message: Message) -> None:
        """The peer opened a stream of a session."""
        flow = self._of(message)
        if flow is not None and message.session_id is not None:
            flow.streams[bool(message.stream_id & _UNIDIRECTIONAL)].arrived += 1
            self._settle(message.session_id, flow)

    def arrived(self, message: Message) -> None:
        """Bytes arrived on a stream of a session."""
        content = message.taken + len(message.buffer)
        with contextlib.suppress(UsageError):  # it is at its end, and all of it in the buffer
            content = self._state.quic.arrived(message.stream_id) - message.prefix
        self._count(message, content)

    def _count(self, message: Message, content: int, done: int = 0) -> None:
        """So many bytes of content are known of, and `done` more need no room any longer."""
        flow = self._of(message)
        grown = max(content - message.received, 0)
        message.received += grown
        message.taken += done
        if flow is not None and message.session_id is not None and (grown or done):
            flow.data.arrived += grown
            flow.data.done += done
            self._settle(message.session_id, flow)

    def read(self, message: Message, count: int) -> None:
        """The application has read bytes."""
        self._count(message, message.taken + count, count)

    def reset(self, message: Message, final_size: int) -> None:
        """The peer gave up a stream; of its content nothing more is read."""
        content = max(final_size - message.prefix, message.received)
        self._count(message, content, content - message.taken)

    def stopped(self, message: Message) -> None:
        """We read no more of a stream; what still comes of it is counted when its end is known."""
        if self._of(message) is None or message.session_id is None:
            return
        self._count(message, message.received, message.received - message.taken)
        if not self._state.quic.at_end(message.stream_id):
            self._stopped[message.stream_id] = message.session_id, message.received + message.prefix

    def discarded(self, stream_id: int, final_size: int) -> None:
        """A stream that is no longer read has come to its end."""
        session_id, counted = self._stopped.pop(stream_id, (-1, 0))
        flow = self._flows.get(session_id)
        if flow is not None and final_size > counted:
            flow.data.arrived += final_size - counted
            flow.data.done += final_size - counted
            self._settle(session_id, flow)

    def over(self, message: Message) -> None:
        """Nothing can happen on a stream any more."""
        self.forget(message.stream_id)
        flow = self._of(message)
        ours = bool(message.stream_id & _SERVER_INITIATED) != self._state.is_client
        if flow is not None and message.session_id is not None and not ours:
            flow.streams[bool(message.stream_id & _UNIDIRECTIONAL)].done += 1
            self._settle(message.session_id, flow)

    def take(self, session_id: int, capsule: Capsule) -> None:
        """A flow control capsule of the peer; `MessageError` if it breaks a rule, which ends the session."""
        flow = self._flows.get(session_id)
        if flow is None or not flow.begun:
            return  # section 5.1: ignored where it is not negotiated
        flow.take(capsule.kind, capsule.value)
        if capsule.kind == WT_MAX_DATA:
            self._release(session_id)
        elif capsule.kind in (WT_MAX_STREAMS_BIDI, WT_MAX_STREAMS_UNI):
            self._state.events.append(StreamsAvailable(capsule.kind == WT_MAX_STREAMS_UNI))

    def _release(self, session_id: int) -> None:
        """The session has credit again: who waits for it may write."""
        for stream_id in [stream for stream, session in self._waiting.items() if session == session_id]:
            del self._waiting[stream_id]
            self._state.events.append(StreamWritable(stream_id))

    # What we do

    def opened_here(self, session_id: int, *, unidirectional: bool) -> None:
        """We have opened a stream."""
        flow = self._flows.get(session_id)
        if flow is not None:
            flow.stream_credit[unidirectional].used += 1

    def may_open(self, session_id: int, *, unidirectional: bool) -> bool:
        """Whether the peer lets us open one more stream of the session; if not, it learns that we would."""
        flow = self._flows.get(session_id)
        if flow is None or not flow.begun:
            return True
        credit = flow.stream_credit[unidirectional]
        if credit.left:
            return True
        if credit.should_tell():
            kind = WT_STREAMS_BLOCKED_UNI if unidirectional else WT_STREAMS_BLOCKED_BIDI
            self.send(session_id, Capsule(kind, encode_varint(credit.limit)))
        return False

    def room(self, message: Message, wanted: int) -> int:
        """How many of `wanted` bytes the session lets us send; if not all, StreamWritable tells when more."""
        flow = self._of(message)
        if flow is None or message.session_id is None or not flow.begun or wanted <= flow.credit.left:
            return wanted
        self._waiting[message.stream_id] = message.session_id
        if flow.credit.should_tell():
            self.send(message.session_id, Capsule(WT_DATA_BLOCKED, encode_varint(flow.credit.limit)))
        return flow.credit.left

    def sent(self, message: Message, count: int) -> None:
        """So many bytes of content were written."""
        message.sent += count
        flow = self._of(message)
        if flow is not None:
            flow.credit.used += count

    def gave_up(self, message: Message, final_size: int | None) -> None:
        """Our side of a stream was given up: what was written and never sent has used no credit."""
        flow = self._of(message)
        self._waiting.pop(message.stream_id, None)
        if final_size is None:
            return
        unused = message.sent - max(final_size - message.prefix_sent, 0)
        if flow is not None and message.session_id is not None and unused > 0:
            message.sent -= unused
            flow.credit.used -= unused
            self._release(message.session_id)
