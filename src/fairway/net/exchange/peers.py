"""The other nodes: which session each has, what is kept of it while it is away, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fairway.net.exchange import limits
from fairway.net.exchange.errors import CloseCode, Loss, PeerFault
from fairway.net.exchange.members import Directory
from fairway.net.exchange.messages import Endpoint, Hello
from fairway.net.exchange.news import News
from fairway.net.exchange.own import Own
from fairway.net.exchange.pace import Counters
from fairway.net.exchange.replica import Replica
from fairway.net.exchange.rib import Rib
from fairway.net.exchange.session import Session
from fairway.net.model.facts import IPAddress
from fairway.net.model.permit import Permit


@dataclass(frozen=True, slots=True)
class Settings:
    """What a network may choose; times are seconds."""

    restart_s: float = limits.RESTART_S
    verdict_s: float = limits.VERDICT_S
    static_only: bool = False
    """Call only those whom the configuration names."""


@dataclass(slots=True)
class Peer:
    """Another node, as long as it is spoken with or known to have been."""

    name: str
    replica: Replica
    counters: Counters
    session: Session | None = None
    loss: Loss | None = None
    """What became of the last session; None while there is one."""
    since: float = 0.0
    """When the session came, or was lost."""
    deadline: float | None = None
    """When what the peer has not confirmed by then goes."""
    endpoints: tuple[Endpoint, ...] = ()
    """Where it says it is."""
    observed: Endpoint | None = None
    """Where it was seen last."""

    def next_hop(self, version: int) -> IPAddress | None:
        """Its address of that IP version: where the connection leads, else what it says of itself."""
        if self.observed is not None and self.observed.address.version == version:
            return self.observed.address
        return next((each.address for each in self.endpoints if each.address.version == version), None)


class Peers:
    """Every peer of one node."""

    def __init__(
        self,
        name: str,
        network: bytes,
        own: Own,
        rib: Rib,
        directory: Directory,
        endpoints: tuple[Endpoint, ...],
        settings: Settings,
    ) -> None:
        self._name = name
        self._network = network
        self._own = own
        self._rib = rib
        self._directory = directory
        self._settings = settings
        self._peers: dict[str, Peer] = {}
        self._waiting: dict[str, Peer] = {}  # those with a deadline
        self._revoked: frozenset[int] = frozenset()
        self._ready: dict[Session, None] = {}
        self.news = News(directory, endpoints, self._sessions, self._ready, static_only=settings.static_only)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)

    def __getitem__(self, name: str) -> Peer:
        return self._peers[name]

    def get(self, name: str) -> Peer | None:
        """A peer that is known."""
        return self._peers.get(name)

    def sessions(self) -> list[Session]:
        """The sessions that are open."""
        return list(self._sessions())

    def _sessions(self) -> Iterator[Session]:
        return (peer.session for peer in self._peers.values() if peer.session is not None)

    def away(self) -> list[Peer]:
        """Peers whose routes are kept for a while, as they are not there to confirm them."""
        return [peer for peer in self._waiting.values() if peer.session is None]

    def take_ready(self) -> list[Session]:
        """Sessions that got something to say, or were ended, by what happened elsewhere than on their own streams."""
        ready = list(self._ready)
        self._ready.clear()
        return ready

    # For whoever does the I/O

    def connect(self, permit: Permit, observed: Endpoint, dialled: Endpoint | None = None) -> Session:
        """There is a connection to a peer whose certificate says `permit`; `dialled` is the address that was called."""
        peer = self._peers.get(permit.node) or self._new(permit)
        hello = Hello(
            self._network,
            self._name,
            self._own.epoch,
            self.news.endpoints,
            peer.replica.holds,
            members=len(self._directory.known),
        )
        session = Session(self, self.news, self._own, permit, hello, peer.counters, observed=observed, dialled=dialled)
        if permit.node == self._name:
            session.close(CloseCode.REFUSED, "a node of the same name")
        elif permit.serial in self._revoked:
            session.close(CloseCode.REFUSED, "its certificate is revoked")
        return session

    def lost(self, session: Session, loss: Loss, now: float) -> None:
        """A connection is over, for whatever reason."""
        session.close(CloseCode.NONE)
        peer = self._peers.get(session.peer)
        if peer is not None and peer.session is session:
            self._ended(peer, loss, now)
        if loss is Loss.REFUSED:
            self._directory.refused(session.peer, session.dialled, now)

    def _ended(self, peer: Peer, loss: Loss, now: float) -> None:
        peer.session, peer.loss, peer.since = None, loss, now
        self._directory.disconnected(peer.name, now)
        if loss is Loss.LEFT:
            self._let_go(peer)
            self._directory.forget(peer.name)
        else:
            peer.replica.suspend()
            keep_s = self._settings.verdict_s if loss is Loss.SILENT else self._settings.restart_s
            self._wait(peer, now + keep_s)

    def seen_at(self, session: Session, observed: Endpoint) -> None:
        """The peer's connection has moved to this address."""
        session.observed = observed
        peer = self._peers.get(session.peer)
        if peer is not None and peer.session is session and peer.observed != observed:
            peer.observed = observed
            peer.replica.touch()

    def host_answers(self, name: str) -> None:
        """A peer is silent, but its host shows a sign of life: only its agent is away."""
        peer = self._peers.get(name)
        if peer is not None and peer.loss is Loss.SILENT and peer.deadline is not None:
            peer.loss = Loss.RESTARTING
            self._wait(peer, peer.since + self._settings.restart_s)

    def revoke(self, serials: frozenset[int]) -> None:
        """The certificates of these serial numbers are revoked: sessions that stand on them end, and their routes."""
        self._revoked = serials
        for peer in [peer for peer in self._peers.values() if peer.replica.permit.serial in serials]:
            if peer.session is not None:
                peer.session.close(CloseCode.REFUSED, "its certificate is revoked")
                self._ready[peer.session] = None
            self._let_go(peer)
            self._directory.forget(peer.name)

    # Time

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do."""
        times = [self.news.next_timeout(), *(peer.deadline for peer in self._waiting.values())]
        return min((when for when in times if when is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Let go what peers did not confirm in time, and those who are long gone; tell the news that are due."""
        for peer in list(self._waiting.values()):
            if peer.deadline is not None and peer.deadline <= now:
                if peer.session is None:
                    self._let_go(peer)
                else:
                    peer.replica.sweep()
                    self._wait(peer, None)
        if self.news.handle_timeout(now):
            self._forget_old(now)

    # What sessions call

    def greeted(self, session: Session, hello: Hello, now: float) -> Replica:
        """A peer has said hello: its session is the one from now on, if there is no better one."""
        if hello.network != self._network:
            raise PeerFault("the peer is of another network", CloseCode.REFUSED)
        if session.permit.serial in self._revoked:  # since it connected
            raise PeerFault("its certificate is revoked", CloseCode.REFUSED)
        peer = self._peers.get(session.peer) or self._new(session.permit)
        former = peer.session
        if former is not None:
            if not self._replaces(session, former):
                raise PeerFault("there is another connection", CloseCode.DUPLICATE)
            former.close(CloseCode.DUPLICATE, "another connection takes its place")
            self._ready[former] = None
            peer.replica.suspend()
        peer.session, peer.loss, peer.since = session, None, now
        peer.counters.sessions += 1
        peer.replica.limit(session.permit)
        peer.replica.begin(hello.epoch)
        self._wait(peer, now + self._settings.restart_s if peer.replica.stale else None)
        self.seen_at(session, session.observed)
        self.moved(session, hello.endpoints, now)
        self.news.introduce(session, hello, now, known=former is not None)
        return peer.replica

    def moved(self, session: Session, endpoints: tuple[Endpoint, ...], now: float) -> None:
        """A peer says where it is."""
        peer = self._peers[session.peer]
        if peer.endpoints != endpoints:
            peer.endpoints = endpoints
            peer.replica.touch()
        self._directory.said(peer.name, endpoints, now)

    # Within

    def _new(self, permit: Permit) -> Peer:
        counters = Counters()
        peer = Peer(permit.node, Replica(permit, self._rib, counters), counters)
        if permit.node != self._name:
            self._peers[permit.node] = peer
        return peer

    def _replaces(self, session: Session, former: Session) -> bool:
        """Whether a new session to a peer is better than the one there is: both sides come to the same answer.

        A later life of the peer, else the connection that the lower name has called, else the later one.
        """
        if session.epoch != former.epoch:
            return session.epoch > former.epoch
        if (session.dialled is None) is (former.dialled is None):
            return True
        return (session.dialled is not None) is (self._name < session.peer)

    def _let_go(self, peer: Peer) -> None:
        peer.replica.clear()
        self._wait(peer, None)

    def _wait(self, peer: Peer, deadline: float | None) -> None:
        peer.deadline = deadline
        if deadline is None:
            self._waiting.pop(peer.name, None)
        else:
            self._waiting[peer.name] = peer

    def _forget_old(self, now: float) -> None:
        for peer in list(self._peers.values()):
            if peer.session is None and not len(peer.replica) and now - peer.since > limits.FORGET_S:
                del self._peers[peer.name]
