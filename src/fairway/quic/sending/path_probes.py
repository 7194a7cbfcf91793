"""Datagrams that answer and ask whether a path works: PATH_RESPONSE and PATH_CHALLENGE (RFC 9000 section 8.2).

They go on the path that they are about, padded to 1200 bytes as far as its allowance reaches. Only answers on the
path in use are remembered, as its window bounds them, but for one each probe timeout; nothing follows from the loss of
the others.
"""

from __future__ import annotations

from fairway.quic.frames import PATH_RESPONSE, PathChallenge, PathResponse, Ping
from fairway.quic.limits import MIN_INITIAL_DATAGRAM
from fairway.quic.packets.protection import TAG_LENGTH, ApplicationKeys
from fairway.quic.paths.migration import Migration
from fairway.quic.paths.path import Path
from fairway.quic.recovery.sent import Run
from fairway.quic.state import ConnectionState

NUMBER_LENGTH = 4


class PathProbes:
    """Builds the probing packets of one connection."""

    __slots__ = ("_migration", "_state")

    def __init__(self, state: ConnectionState, migration: Migration) -> None:
        self._state = state
        self._migration = migration

    def build(self, keys: ApplicationKeys, now: float) -> tuple[Path, bytes] | None:
        """The next datagram and its path; None if there is none to send now."""
        state = self._state
        waiting = False
        for path in (state.path, *self._migration.others):
            validation = path.validation
            asks = validation is not None and validation.due is not None and validation.due <= now
            if not asks and not path.responses:
                continue
            datagram = self._datagram(path, asks, keys, now)
            if datagram is not None:
                return path, datagram
            waiting = True
        state.probing = waiting
        return None

    def _datagram(self, path: Path, asks: bool, keys: ApplicationKeys, now: float) -> bytes | None:
        state = self._state
        destination = self._destination(path)
        if destination is None:  # section 9.5: without a connection ID for the path there is no answer
            path.responses.clear()
            return None
        responses = path.responses
        allowance = self._allowance(path, asks, now)
        overhead = 1 + len(destination) + NUMBER_LENGTH + TAG_LENGTH
        answers = bool(responses)
        if allowance < overhead + 9 * (len(responses) + asks) + answers:
            return None
        if not asks and self._is_held(path):
            path.answered_beyond_at = now
        parts = [PathResponse(data).encode() for data in responses]
        responses.clear()
        size = min(allowance, MIN_INITIAL_DATAGRAM)
        if asks and path.validation is not None:
            challenge = path.validation.challenge(state.random, now)
            parts.append(PathChallenge(challenge).encode())
            if size < MIN_INITIAL_DATAGRAM:
                path.validation.sent_small(challenge)
            self._migration.challenged(now)
        if answers and path is state.path:  # section 9.3.3: who is still here says so with more than a probe
            parts.append(Ping().encode())
        payload = b"".join(parts).ljust(size - overhead, b"\0")
        space = state.application
        first = space.next_number
        space.next_number += 1
        if answers and path is state.path:
            space.sent.add(Run(first, 1, size, now, frames=((PATH_RESPONSE, 0),)))
            path.controller.on_sent(now, size, first)
            path.pacer.spend(size)
            space.last_eliciting_at = now
            state.loss_timer_stale = True
        path.bytes_sent += size
        if state.watch is not None:
            state.watch.sent(space.kind, first, [payload], overhead, now)
        return keys.sealer.seal(state.first_byte(path), destination, first, NUMBER_LENGTH, [payload])

    def _destination(self, path: Path) -> bytes | None:
        ids = self._state.remote_ids
        if path is self._state.path or not ids.current:
            return ids.current
        if not ids.knows(path.sequence):
            path.sequence = ids.take()
        return None if path.sequence is None else ids.id_of(path.sequence)

    def _allowance(self, path: Path, asks: bool, now: float) -> int:
        """Bytes that may go on this path now."""
        state = self._state
        allowance = path.send_allowance
        # Answers of 1200 bytes to small questions are part of what the window bounds. But a peer that acknowledges only
        # where it has proof of our address empties the window no sooner than it has the answer: so one goes as a probe
        # does (RFC 9002 section 7.5), and more of them wait.
        waits = self._is_held(path) and now - path.answered_beyond_at < state.probe_timeout_s
        return allowance if asks or not waits else 0

    def _is_held(self, path: Path) -> bool:
        """True if the congestion window has no room for an answer."""
        state = self._state
        return path is state.path and path.controller.window - state.bytes_in_flight < MIN_INITIAL_DATAGRAM
