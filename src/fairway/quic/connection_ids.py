"""Connection IDs (RFC 9000 section 5.1): those that we issue, and those that the peer issued to us."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.frames import NEW_CONNECTION_ID, RETIRE_CONNECTION_ID, NewConnectionId
from fairway.quic.limits import ACTIVE_CONNECTION_ID_LIMIT, MAX_PATHS, MAX_PENDING_RETIREMENTS

LOCAL_LENGTH = 8
"""Length of the connection IDs that we choose, unless they say where they lead (`endpoint.ids`).

Short headers carry no length, so all of one connection, and all of one endpoint, have the same.
"""

MakeId = Callable[[], tuple[bytes, bytes]]
"""Makes a connection ID and its stateless reset token."""

IDS_IN_USE = 2
"""Connection IDs that we keep issued: most connections never move, and each costs a frame and an acknowledgement."""

IDS_WHEN_MOVING = MAX_PATHS + 1
"""As many from the first move or probe on: one for every path that is kept, and one for the next."""


@dataclass(frozen=True, slots=True)
class IssuedId:
    """One of our connection IDs."""

    sequence: int
    connection_id: bytes
    reset_token: bytes


class LocalIds:
    """Connection IDs that the peer may address us by, all of one length; `make` gives others."""

    __slots__ = (
        "_active", "_announced", "_make", "_next_sequence", "_peer_limit", "_wanted", "added", "length", "removed",
    )  # fmt: skip

    def __init__(self, first: bytes, make: MakeId) -> None:
        self.length = len(first)
        self._make = make
        self._active: dict[int, IssuedId] = {0: IssuedId(0, first, b"")}
        self._next_sequence = 1
        self._announced = 0
        self._peer_limit = 1
        self._wanted = IDS_IN_USE
        self.added: list[bytes] = [first]
        """Connection IDs that demultiplexing must learn."""
        self.removed: list[bytes] = []
        """Connection IDs that demultiplexing must forget."""

    @property
    def active(self) -> tuple[bytes, ...]:
        """All connection IDs that are in use."""
        return tuple(issued.connection_id for issued in self._active.values())

    def __contains__(self, connection_id: bytes) -> bool:
        for issued in self._active.values():  # noqa: SIM110 - asked for every packet, and twice as fast as `any`
            if issued.connection_id == connection_id:
                return True
        return False

    def announce(self, sequence: int) -> IssuedId | None:
        """The connection ID with this sequence number, unless retired: it goes into a packet now."""
        self._announced = max(self._announced, sequence)
        return self._active.get(sequence)

    def issue_first(self) -> IssuedId:
        """The connection ID of the preferred address (RFC 9000 section 5.1.1): sequence number 1."""
        issued = self._active[1] = IssuedId(1, *self._make())
        self._next_sequence, self._announced = 2, 1
        self._wanted += 1
        self.added.append(issued.connection_id)
        return issued

    def issue(self, peer_limit: int) -> list[tuple[int, int]]:
        """Fill up to what the peer takes (active_connection_id_limit); give the frames to send."""
        self._peer_limit = peer_limit
        return self._fill()

    def expect_moves(self) -> list[tuple[int, int]]:
        """The connection is about to use several paths: issue more; give the frames to send."""
        if self._wanted >= IDS_WHEN_MOVING:
            return []
        self._wanted = IDS_WHEN_MOVING
        return self._fill()

    def _fill(self) -> list[tuple[int, int]]:
        keys = []
        limit = min(self._peer_limit, self._wanted)
        while len(self._active) < limit:
            connection_id, token = self._make()
            sequence = self._next_sequence
            self._next_sequence += 1
            self._active[sequence] = IssuedId(sequence, connection_id, token)
            self.added.append(connection_id)
            keys.append((NEW_CONNECTION_ID, sequence))
        return keys

    def retire(self, sequence: int, used: bytes) -> list[tuple[int, int]]:
        """RETIRE_CONNECTION_ID in a packet addressed to `used`; give the frames that issue another (section 19.16)."""
        if sequence > self._announced:  # issued or not: the peer cannot know it
            raise _violation(RETIRE_CONNECTION_ID, "a connection ID is retired that was not issued", "19.16")
        issued = self._active.get(sequence)
        if issued is None:
            return []
        if issued.connection_id == used:
            raise _violation(RETIRE_CONNECTION_ID, "a packet retires the ID that it is addressed to", "19.16")
        del self._active[sequence]
        self.removed.append(issued.connection_id)
        return self._fill()


class RemoteIds:
    """Connection IDs that we address the peer by; the one in use is `current`."""

    __slots__ = ("_known", "_pending", "_retire_prior_to", "_retired", "_taken", "current", "preferred", "sequence")

    def __init__(self, first: bytes) -> None:
        self._known: dict[int, tuple[bytes, bytes]] = {0: (first, b"")}
        self._retire_prior_to = 0
        self._retired: set[int] = set()
        self._pending: set[int] = set()
        """Sequence numbers whose RETIRE_CONNECTION_ID was not acknowledged."""
        self._taken: set[int] = set()
        """Those that belong to a path, or did."""
        self.sequence = 0
        """Of the one in use."""
        self.current = first
        self.preferred: int | None = None
        """That of the server's preferred address, until it is used."""

    @property
    def reset_tokens(self) -> tuple[bytes, ...]:
        """Stateless reset tokens of the IDs that we have used and not retired (section 10.3.1)."""
        return tuple(
            token for s, (_, token) in self._known.items() if token and (s == self.sequence or s in self._taken)
        )

    @property
    def spare(self) -> int:
        """Connection IDs for further paths; one of zero length serves all."""
        if not self.current:
            return 1
        return len(self._known.keys() - self._taken - {self.sequence, self.preferred})

    def replace_first(self, connection_id: bytes) -> None:
        """The peer's choice became known (its first packet, or a Retry)."""
        self._known[0] = (connection_id, self._known[0][1])
        self.current = connection_id

    def set_reset_token(self, token: bytes) -> None:
        """The token of the handshake's connection ID (transport parameter)."""
        self._known[0] = (self._known[0][0], token)

    def set_preferred(self, connection_id: bytes, token: bytes) -> None:
        """The connection ID of the server's preferred address (section 18.2)."""
        self._known[1] = (connection_id, token)
        self.preferred = 1

    def add(self, frame: NewConnectionId) -> list[tuple[int, int]]:
        """NEW_CONNECTION_ID; give the frames that retire what it replaces (section 5.1.1, 5.1.2, 19.15)."""
        if not self.current:
            raise _violation(NEW_CONNECTION_ID, "a peer with zero-length IDs issues others", "19.15")
        entry = (frame.connection_id, frame.reset_token)
        known = self._known.get(frame.sequence)
        if known is not None and known != entry:
            raise _violation(NEW_CONNECTION_ID, "a sequence number is issued twice, differently", "19.15")
        for sequence, (connection_id, _) in self._known.items():
            if connection_id == frame.connection_id and sequence != frame.sequence:
                raise _violation(NEW_CONNECTION_ID, "a connection ID is issued twice", "19.15")
        keys = []
        if frame.sequence < self._retire_prior_to or frame.sequence in self._retired:
            if frame.sequence not in self._retired:
                keys.append(self._retire(frame.sequence))
            return self._bounded(keys)
        self._known[frame.sequence] = entry
        if frame.retire_prior_to > self._retire_prior_to:
            self._retire_prior_to = frame.retire_prior_to
            for sequence in [s for s in self._known if s < frame.retire_prior_to]:
                del self._known[sequence]
                keys.append(self._retire(sequence))
            self._retired = {s for s in self._retired if s >= frame.retire_prior_to}
            self._taken &= self._known.keys()
            if self.sequence not in self._known:
                self.use(min(self._known.keys() - self._taken, default=min(self._known)))
                self._taken &= self._known.keys()
        if len(self._known) > ACTIVE_CONNECTION_ID_LIMIT:
            raise PeerError(
                ErrorCode.CONNECTION_ID_LIMIT_ERROR,
                f"more than {ACTIVE_CONNECTION_ID_LIMIT} connection IDs",
                frame_type=NEW_CONNECTION_ID,
                section="RFC 9000 section 5.1.1",
            )
        return self._bounded(keys)

    def take(self) -> int | None:
        """The sequence number of an ID that no path has used, for another path; None if there is none."""
        if not self.current:
            return self.sequence  # a zero-length ID serves all paths
        spare = [s for s in self._known if s not in self._taken and s not in (self.sequence, self.preferred)]
        if not spare:
            return None
        self._taken.add(min(spare))
        return min(spare)

    def knows(self, sequence: int | None) -> bool:
        """Whether this ID was issued and not retired."""
        return sequence in self._known

    def id_of(self, sequence: int) -> bytes:
        """The connection ID with this sequence number."""
        return self._known[sequence][0]

    def use(self, sequence: int) -> None:
        """Go over to another connection ID; the one before stays known, for the path that it belongs to."""
        self._taken.add(self.sequence)
        self.sequence = sequence
        self.current = self._known[sequence][0]
        if sequence == self.preferred:
            self.preferred = None

    def give_up(self, sequence: int) -> tuple[int, int]:
        """Retire an ID that is not in use; give the frame to send."""
        del self._known[sequence]
        self._taken.discard(sequence)
        return self._retire(sequence)

    def retirement_acknowledged(self, sequence: int) -> None:
        """The peer has our RETIRE_CONNECTION_ID frame for this one."""
        self._pending.discard(sequence)

    def _retire(self, sequence: int) -> tuple[int, int]:
        if sequence >= self._retire_prior_to:
            self._retired.add(sequence)
        self._pending.add(sequence)
        return (RETIRE_CONNECTION_ID, sequence)

    def _bounded(self, keys: list[tuple[int, int]]) -> list[tuple[int, int]]:
        if len(self._pending) > MAX_PENDING_RETIREMENTS:
            raise PeerError(
                ErrorCode.CONNECTION_ID_LIMIT_ERROR,
                "connection IDs are retired faster than we can acknowledge",
                frame_type=NEW_CONNECTION_ID,
                section="RFC 9000 section 5.1.2",
            )
        return keys


def _violation(frame_type: int, reason: str, section: str) -> PeerError:
    return PeerError(ErrorCode.PROTOCOL_VIOLATION, reason, frame_type=frame_type, section=f"RFC 9000 section {section}")
