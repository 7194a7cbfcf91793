"""Where a connection is reached: paths found, followed, probed and given up (RFC 9000 section 9).

One path is in use, `state.path`; `others` are those that were in use, that the peer probes, or that we do. A server
follows its client to wherever its newest packet came from that is more than a probe; until the new address is validated
it gets no more than three times what it sent, and if it is never validated the connection goes back.
"""

from __future__ import annotations

from fairway.quic import frames
from fairway.quic.closing import abandon
from fairway.quic.errors import ClosedBy, Closing, PeerError, UsageError
from fairway.quic.events import PathChanged, PathFailed, PathValidated
from fairway.quic.limits import MAX_PATHS, MIN_INITIAL_DATAGRAM
from fairway.quic.paths.path import Address, Local, Path
from fairway.quic.paths.validation import TIMEOUT_PROBES, PathValidation
from fairway.quic.recovery.rtt import RttEstimator
from fairway.quic.state import ConnectionState, Phase
from fairway.quic.timers import Timer
from fairway.wire import Reader, WireError

_PROBING = frozenset(
    {frames.PADDING, frames.PATH_CHALLENGE, frames.PATH_RESPONSE, frames.NEW_CONNECTION_ID}
)  # section 9.1


class Migration:
    """The paths of one connection."""

    __slots__ = ("_state", "others")

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self.others: list[Path] = []
        """Paths that are not in use, the most recent last."""

    # What arrives

    def arrival(self, local: Local, address: Address | None) -> Path | None:
        """The path that a buffer came on, None if it is to be dropped. A client may leave out the address."""
        path = self._state.path
        if local == path.local and (address is None or address == path.address):
            return path
        if not self._state.handshake_complete:  # nobody moves before that: section 9
            return None
        for other in self.others:
            if local == other.local and (address is None or address == other.address):
                return other
        if self._state.is_client or address is None:  # section 9: a server has no addresses but those that we know
            return None
        return self._make(local, address)

    def heard_on(self, path: Path, *, moved: bool, now: float) -> None:
        """A genuine packet came on a path that is not in use; `moved` if it is the newest and more than a probe."""
        if path not in self.others:
            if not moved and not path.responses:
                return  # an answer to what was given up: to ask there again would have no end
            self._keep(path)
        if self._state.is_client:
            return
        if moved:
            self._follow(path, now)
        elif not path.validated:
            self._validate(path, now)

    def on_response(self, data: bytes, now: float) -> None:
        """PATH_RESPONSE: it validates the path that the challenge was sent on (section 8.2.3)."""
        for path in (self._state.path, *self.others):
            validation = path.validation
            if validation is not None and validation.is_answered_by(data):
                break
        else:
            return
        path.validated, path.silent = True, False
        sample = validation.sample_s(data, now)
        if sample is not None and path.rtt.first_sample_at is None:
            path.rtt.update(sample, 0.0, now)
        path.validation = None
        if not validation.proves_size(data):  # section 8.2.1: now that we may, ask with a datagram of full size
            self._validate(path, now)
        elif path.wanted:
            path.wanted = False
            self._state.events.append(PathValidated(path.local, path.address))
        if path is self._state.path:
            for other in [other for other in self.others if other.silent]:
                self._drop(other)
        self._set_timer(now)
        self._state.loss_timer_stale = True

    # What we want

    def probe(self, local: Local, address: Address | None, sequence: int | None, now: float) -> None:
        """Ask for a new path to the peer, with a connection ID of its own; an event tells what becomes of it."""
        state = self._state
        path = self.find(local)
        if path is None:
            path = self._make(local, address or state.path.address)
            path.validated = True  # the server's address is known: what is in doubt is the way there
            path.sequence = state.remote_ids.take() if sequence is None else sequence
            if path.sequence is None:
                raise UsageError("the peer has given no connection ID for another path: try again later")
            self._keep(path)
        path.wanted = True
        self._validate(path, now)

    def move(self, local: Local, address: Address | None, now: float) -> None:
        """Go over to a path, probed or not, with a connection ID of its own if there is one."""
        path = self.find(local)
        if path is None:
            path = self._make(local, address or self._state.path.address)
            path.validated = True
            self._keep(path)
            path.wanted = True
            self._validate(path, now)
        if path is not self._state.path:
            self._use(path, now)

    def forget(self, local: Local) -> None:
        """The socket is gone: so are the paths from it, but for the one in use."""
        for path in [path for path in self.others if path.local == local]:
            self._drop(path)

    def on_timeout(self, now: float) -> None:
        """A path is to be challenged again, or given up."""
        for path in (self._state.path, *self.others):
            validation = path.validation
            if validation is None:
                continue
            if validation.deadline <= now:
                self._fail(path, now)
            elif validation.due is not None and validation.due <= now:
                self._state.probing = True
        self._set_timer(now)

    def challenged(self, now: float) -> None:
        """A PATH_CHALLENGE was sent: see when the next thing is due."""
        self._set_timer(now)

    # Within

    def find(self, local: Local) -> Path | None:
        """The path from a socket."""
        if self._state.path.local == local:
            return self._state.path
        return next((path for path in self.others if path.local == local), None)

    def _make(self, local: Local, address: Address | None) -> Path:
        configuration = self._state.configuration
        size = MIN_INITIAL_DATAGRAM  # every path carries it; what more, discovery tells
        controller = configuration.controller_factory(size)
        return Path(
            address,
            size,
            RttEstimator(configuration.initial_rtt_s),
            controller,
            local=local,
            spin=self._state.choose_spin(),
        )

    def _keep(self, path: Path) -> None:
        if len(self.others) >= MAX_PATHS - 1:  # with the one in use; who was validated is worth more
            self._drop(next((other for other in self.others if not other.validated), self.others[0]))
        self.others.append(path)
        for key in self._state.local_ids.expect_moves():
            self._state.control[key] = None

    def _follow(self, path: Path, now: float) -> None:
        """The client has moved, or seems to have (section 9.3)."""
        old = self._state.path
        self._use(path, now)
        if not path.validated:
            self._validate(path, now)
        if old.validated and old in self.others:  # section 9.3.3: somebody may merely have copied packets
            self._validate(old, now)

    def _use(self, path: Path, now: float) -> None:
        """Packets go on this path from now on."""
        state, ids = self._state, self._state.remote_ids
        old = state.path
        if path.rtt.first_sample_at is None and path.differs_by_port_only(old):
            path.share_network(old)
        if path.controller is not old.controller:
            # Section 9.4: what is under way on the old path tells nothing about the new one.
            state.application.sent.leave_path()
        old.sequence = ids.sequence
        sequence = path.sequence if ids.knows(path.sequence) else ids.take()
        if (
            sequence is not None
        ):  # otherwise the one in use goes on: section 9.5 allows it to who did not choose to move
            ids.use(sequence)
            path.spin.restart()
        self.others.remove(path)
        self.others.append(old)
        state.path = path
        state.pto_count = 0
        state.ecn.restart()
        if state.events and isinstance(state.events[-1], PathChanged):  # where it went meanwhile is of no use
            state.events.pop()
        state.events.append(PathChanged(path.local, path.address))
        self._state.loss_timer_stale = True

    def _validate(self, path: Path, now: float) -> None:
        if path.validation is not None:
            return
        wait_s = self._state.probe_timeout_s
        fresh = RttEstimator(self._state.configuration.initial_rtt_s)
        timeout_s = TIMEOUT_PROBES * max(wait_s, fresh.timeout)  # section 8.2.4
        path.validation = PathValidation(now, wait_s, timeout_s)
        self._state.probing = True
        self._set_timer(now)

    def _fail(self, path: Path, now: float) -> None:
        """Nobody answered on this path."""
        state = self._state
        path.validation = None
        if path.wanted:
            path.wanted = False
            state.events.append(PathFailed(path.local, path.address, "the peer does not answer on it"))
        if path is not state.path:
            if path.validated and not state.path.validated:  # the only one that ever worked: section 9.3.2
                path.silent = True
            else:
                self._drop(path)
            return
        if state.is_client:  # it alone chooses where to go
            return
        back = next((other for other in reversed(self.others) if other.validated), None)
        if back is not None:
            self._use(back, now)
            self._drop(path)
        elif not path.validated:  # section 9.3.2
            abandon(state, Closing(ClosedBy.TRANSPORT, reason="the peer's new address does not answer"), now)

    def _drop(self, path: Path) -> None:
        """Forget a path; its connection ID is not used on any other."""
        self.others.remove(path)
        ids = self._state.remote_ids
        if path.sequence is None or path.sequence == ids.sequence or not ids.knows(path.sequence):
            return
        if all(other.sequence != path.sequence for other in self.others):
            self._state.control[ids.give_up(path.sequence)] = None

    def _set_timer(self, now: float) -> None:
        """What is due and cannot be sent yet waits for what arrives, not for the clock."""
        deadlines = [path.validation.next_after(now) for path in (self._state.path, *self.others) if path.validation]
        self._state.timers.set(Timer.PATH, min(deadlines, default=None))


def why_not_migrate(state: ConnectionState, *, invited: bool) -> str | None:
    """Why a connection may not move on purpose, None if it may (section 9); `invited` to the preferred address."""
    if not state.is_client:
        return "only a client moves: a server has its preferred address"
    if state.phase is not Phase.CONFIRMED:
        return "the handshake is not confirmed"
    if state.peer_parameters.disable_active_migration and not invited:
        return "the server does not allow migration (disable_active_migration)"
    return None


def is_probing(payload: bytes) -> bool:
    """Whether a packet holds only probing frames (section 9.1); what cannot be parsed is for others to refuse."""
    reader = Reader(payload)
    try:
        while reader.remaining:
            if payload[reader.offset] not in _PROBING:
                return False
            frames.decode_frame(reader)
    except (WireError, PeerError):
        pass
    return True
