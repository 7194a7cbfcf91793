"""What nodes tell each other besides routes: where they are, who the members are, whose certificates are revoked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from fairway.net.exchange import limits
from fairway.net.exchange.members import Directory
from fairway.net.exchange.messages import Endpoint, Hello, Member, Members, Revocations
from fairway.net.exchange.session import Session


class News:
    """One node's. `sessions` gives those that are open; whichever gets something to say is noted in `ready`."""

    def __init__(
        self,
        directory: Directory,
        endpoints: tuple[Endpoint, ...],
        sessions: Callable[[], Iterator[Session]],
        ready: dict[Session, None],
        *,
        static_only: bool,
    ) -> None:
        self.endpoints = endpoints
        """Where this node is."""
        self._directory = directory
        self._sessions = sessions
        self._ready = ready
        self._static_only = static_only
        self._revocations: Revocations | None = None
        self._told: Revocations | None = None
        self._members_due: float | None = None
        self._turn = 0

    # What peers are told

    def introduce(self, session: Session, hello: Hello, now: float, *, known: bool) -> None:
        """Tell the newcomer who is there, and, unless they know, some of those who are there of the newcomer."""
        self._directory.connected(session.peer, session.dialled, now)
        if hello.members < self._directory.connections:
            session.tell_members(self._directory.speaking_with())
        if self._revocations is not None:
            session.tell_revocations(self._revocations)
        if self._members_due is None:
            self._members_due = now + limits.MEMBERS_INTERVAL_S
        if not known:
            newcomer = Member(session.peer, hello.endpoints)
            for other in islice(self._sessions(), limits.NEWS_FANOUT):
                other.tell_members((newcomer,))
                self._ready[other] = None

    def move(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Our own addresses have changed: tell every peer."""
        if endpoints != self.endpoints:
            self.endpoints = endpoints
            for session in self._sessions():
                session.tell_endpoints(endpoints)
                self._ready[session] = None

    def spread(self, revocations: Revocations) -> None:
        """A newer revocation list, verified: every peer gets it."""
        if self._is_newer(revocations):
            self._revocations = revocations
            for session in self._sessions():
                session.tell_revocations(revocations)
                self._ready[session] = None

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do."""
        return self._members_due

    def handle_timeout(self, now: float) -> bool:
        """Tell one peer, each in its turn, who the members are; whether it was time for that."""
        if self._members_due is None or self._members_due > now:
            return False
        self._members_due = now + limits.MEMBERS_INTERVAL_S
        sessions = list(self._sessions())
        if sessions:
            self._turn += 1
            session = sessions[self._turn % len(sessions)]
            session.tell_members(self._directory.speaking_with())
            self._ready[session] = None
        return True

    # What peers tell

    def told_members(self, members: Members, now: float) -> None:
        """A peer tells of others."""
        if not self._static_only:
            self._directory.told(members.members, now)

    def told_revocations(self, revocations: Revocations) -> None:
        """A peer has a revocation list."""
        if self._is_newer(revocations):
            self._told = revocations

    def take_revocations(self) -> Revocations | None:
        """What a peer told last and is newer than ours: to be verified."""
        told, self._told = self._told, None
        return told

    def _is_newer(self, revocations: Revocations) -> bool:
        return self._revocations is None or revocations.number > self._revocations.number
