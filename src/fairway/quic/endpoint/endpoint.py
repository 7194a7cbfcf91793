"""Demultiplexing (RFC 9000 section 5.2): datagrams to connections, new connections from Initial packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fairway.quic.configuration import QuicConfiguration
from fairway.quic.connection import Connection, Random, WallClock
from fairway.quic.endpoint.admission import Admission, AdmissionLimits, Decision
from fairway.quic.endpoint.answers import arrived_whole, close, retry
from fairway.quic.endpoint.draining import DrainingIds
from fairway.quic.endpoint.early_packets import EarlyPackets
from fairway.quic.endpoint.ids import Ids
from fairway.quic.endpoint.resets import make_resets
from fairway.quic.endpoint.statistics import EndpointStatistics
from fairway.quic.endpoint.tokens import ABSENT, Tokens, Verdict
from fairway.quic.errors import ErrorCode
from fairway.quic.limits import MIN_INITIAL_DATAGRAM
from fairway.quic.observe.observer import Observe, nobody
from fairway.quic.packets.headers import (
    FIXED_BIT,
    LONG_HEADER,
    Buffer,
    LongHeader,
    PacketType,
    encode_version_negotiation,
    parse_long_header,
)
from fairway.quic.paths.path import Address, Local
from fairway.quic.state import Phase
from fairway.quic.version_information import reserved_version
from fairway.tls import SealingKeys, ServerConfig
from fairway.tls.strikes import Strikes
from fairway.wire import WireError

MIN_CLIENT_DESTINATION = 8  # RFC 9000 section 7.2

Elsewhere = Callable[[int, Buffer, int, Address], bool]
"""Takes datagrams of some size each from an address for the worker with that number; False if it does not run."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A datagram that belongs to no connection."""

    data: bytes
    address: Address
    local: Local = None
    """Which of the caller's sockets sends it."""


class Endpoint:
    """A server's connections by their IDs.

    IDs that a peer chose (the first Destination Connection ID) are keys here too; `bytes` hash with a secret of the
    process, so nobody can make them collide. With `retry` every newcomer has to prove its address; without, only while
    the endpoint is loaded. `token_keys` seal the proofs, `token_strikes` know which were used.

    `ids` make its connection IDs. Where they name one of several workers, `elsewhere` takes what came to the wrong one:
    the kernel puts equal datagrams from one address into one buffer, whomever they are for.
    """

    def __init__(
        self,
        tls: ServerConfig,
        configuration: QuicConfiguration | None = None,
        *,
        random: Random,
        clock: WallClock,
        limits: AdmissionLimits | None = None,
        observe: Observe = nobody,
        retry: bool = False,
        token_keys: SealingKeys | None = None,
        token_strikes: Strikes | None = None,
        reset_key: bytes | None = None,
        ids: Ids | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """With the same `reset_key` (a secret), connections from before a restart are told at once that they ended."""
        self._tls = tls
        if tls.tickets is not None:
            tls.tickets.begin(clock)
        self._configuration = configuration or QuicConfiguration()
        self._versions = self._configuration.spoken_versions
        self._random = random
        self._clock = clock
        self._admission = Admission(limits)
        self._observe = observe
        self.statistics = EndpointStatistics()
        """What was counted over the endpoint's life."""
        self._retry = retry
        self._tokens = Tokens(token_keys or SealingKeys(), random=random, clock=clock, strikes=token_strikes)
        self._early = EarlyPackets()
        self._resets = make_resets(reset_key, random)
        self._new_ids = ids or Ids()
        self._id_length = self._new_ids.length
        self._elsewhere = elsewhere
        self._by_id: dict[bytes, Connection] = {}
        self._ids: dict[Connection, set[bytes]] = {}
        self._draining = DrainingIds()
        self.accepting = True
        """False to let nobody new in."""
        self.replies: deque[Reply] = deque(maxlen=256)
        """Datagrams to send that belong to no connection."""

    def __len__(self) -> int:
        return len(self._ids)

    def renew(self, tls: ServerConfig) -> None:
        """New connections have this configuration; those that there are keep theirs."""
        self._tls = tls

    @property
    def pending(self) -> int:
        """Connections whose handshake is not complete, those that failed and are not forgotten included."""
        return self._admission.pending

    @property
    def refused(self) -> int:
        """Newcomers that were not let in."""
        return self.statistics.refused.total()

    def receive(
        self, buffer: Buffer, segment: int, address: Address, now: float, local: Local = None, mark: int = 0
    ) -> list[Connection]:
        """Hand on datagrams of `segment` bytes each; give the connections that took some in, new ones included.

        `local` is which of the caller's sockets they came to, `mark` the ECN bits of their IP headers.
        """
        size = len(buffer)
        if size > segment and not _one_destination(buffer, segment, self._id_length):
            touched: list[Connection] = []
            for start in range(0, size, segment):
                part = buffer[start : start + segment]
                touched += [c for c in self.receive(part, len(part), address, now, local, mark) if c not in touched]
            return touched
        connection = self._find(buffer, min(segment, size), segment, address, now, local)
        if connection is None:
            return []
        connection.receive(buffer, segment, now, address, local, mark)
        if self._early and self._admission.is_pending(connection):
            for early, early_segment in self._early.take(bytes(buffer[6 : 6 + buffer[5]]), address, now):
                connection.receive(early, early_segment, now, address, local)
        if not connection.heard:  # whoever sent this did not mean a handshake: keep nothing
            self._forget(connection)
            self.statistics.unheard += 1
            return []
        self._update(connection, now)
        return [connection]

    def forget(self, connection: Connection, figures: Mapping[str, float] | None = None) -> None:
        """The connection is over, or drains; `figures` are what to count of it if more is known than `statistics()`."""
        ids = self._ids.get(connection)
        if ids is not None:
            completed = not self._admission.is_pending(connection)
            self.statistics.ended(figures or connection.statistics(), connection.closing, completed)
            until = connection.next_timeout()
            if connection.phase is Phase.DRAINING and until is not None:
                self._draining.add(ids, until)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        for connection_id in self._ids.pop(connection, ()):
            self._by_id.pop(connection_id, None)
        self._admission.forget(connection)

    def connections(self) -> list[Connection]:
        """All connections that were not forgotten."""
        return list(self._ids)

    def _find(
        self, buffer: Buffer, end: int, segment: int, address: Address, now: float, local: Local
    ) -> Connection | None:
        """Whom the first datagram, up to `end`, and so all of the buffer is for; None if it was dealt with here."""
        if not end:
            return None
        if not buffer[0] & LONG_HEADER:
            destination = bytes(buffer[1 : 1 + self._id_length])
        elif end > 6:
            # In every version a Destination Connection ID and its length follow the version (RFC 8999 section 5.1).
            destination = bytes(buffer[6 : 6 + buffer[5]])
        else:
            return None
        known = self._by_id.get(destination)
        if known is not None:
            return known
        if destination in self._draining:
            return None
        if self._elsewhere is not None:
            other = self._new_ids.other(destination)
            if other is not None and self._elsewhere(other, buffer, segment, address):
                return None
        if not buffer[0] & LONG_HEADER:
            self._reset(buffer, destination, end, address, now, local)
            return None
        return self._stranger(buffer, end, address, now, local)

    def _stranger(self, buffer: Buffer, end: int, address: Address, now: float, local: Local) -> Connection | None:
        """Long headers for a connection ID that is not known: a newcomer?"""
        try:
            header = parse_long_header(buffer, 0, end)
        except WireError:
            return None
        speaks = header.version in self._versions
        if header.type is PacketType.ZERO_RTT and speaks and self.accepting and not self._retry:
            self._early.keep(header.destination, address, bytes(buffer), end, now)
            return None
        if end < MIN_INITIAL_DATAGRAM:
            return None
        if not speaks:
            if header.type is not PacketType.VERSION_NEGOTIATION:
                self._negotiate(header, address, now, local)
            return None
        if header.type is not PacketType.INITIAL or len(header.destination) < MIN_CLIENT_DESTINATION:
            return None
        if not buffer[0] & FIXED_BIT:  # nobody has been told yet that it need not be set: RFC 9287 section 3
            return None
        return self._accept(header, buffer, address, now, local)

    def _reset(self, buffer: Buffer, destination: bytes, end: int, address: Address, now: float, local: Local) -> None:
        """A stateless reset for a packet that is for nobody (section 10.3)."""
        if buffer[0] & FIXED_BIT:
            data = self._resets.reset(destination, end, now)
            if data is not None:
                self.replies.append(Reply(data, address, local))

    def _negotiate(self, header: LongHeader, address: Address, now: float, local: Local) -> None:
        """Version Negotiation for a version that we do not speak (section 6.1), at a bounded rate."""
        if not self.accepting or not self._admission.may_answer(now):
            return
        unpredictable = self._random(5)
        versions = (*self._versions, int.from_bytes(reserved_version(unpredictable[:4]), "big"))
        data = encode_version_negotiation(header.source, header.destination, versions, unpredictable[4])
        self.replies.append(Reply(data, address, local))
        self.statistics.version_negotiations += 1

    def _accept(
        self, header: LongHeader, buffer: Buffer, address: Address, now: float, local: Local
    ) -> Connection | None:
        """A newcomer, whose address a token may have proved (section 8.1)."""
        if not self.accepting:
            self.statistics.refused["closing"] += 1
            return None
        verdict = (
            self._tokens.judge(header.token, address, header.destination, header.version) if header.token else ABSENT
        )
        if verdict.invalid_retry:
            self.statistics.invalid_tokens += 1
            if arrived_whole(header, buffer):  # damaged on the way it says nothing of the client, who sends it again
                self._close(header, ErrorCode.INVALID_TOKEN, address, now, local)
            return None
        decision = self._admission.judge(address, verdict.validated)
        if decision is Decision.ADMIT and (verdict.validated or not self._retry):
            return self._begin(header, verdict, address, now)
        if decision in (Decision.ADMIT, Decision.PROVE):
            self._ask_for_proof(header, address, local)
            return None
        self.statistics.refused[str(decision.value)] += 1
        if decision is not Decision.HANDSHAKES:  # it may come again in a second: there will be room
            self._close(header, ErrorCode.CONNECTION_REFUSED, address, now, local)
        return None

    def _close(self, header: LongHeader, code: ErrorCode, address: Address, now: float, local: Local) -> None:
        """Tell a newcomer that it is not let in, at a bounded rate."""
        if self._admission.may_answer(now):
            self.replies.append(Reply(close(header, code), address, local))

    def _ask_for_proof(self, header: LongHeader, address: Address, local: Local) -> None:
        """Retry (section 8.1.2): nothing of the newcomer is kept."""
        source = self._new_ids.for_anyone(self._random)
        token = self._tokens.for_retry(address, header.destination, source, header.version)
        self.replies.append(Reply(retry(header, source, token), address, local))
        self.statistics.retries += 1

    def _begin(self, header: LongHeader, verdict: Verdict, address: Address, now: float) -> Connection:
        original = verdict.original_destination
        connection = Connection.server(
            self._tls,
            self._configuration,
            now=now,
            random=self._random,
            clock=self._clock,
            destination=header.destination,
            source=header.source,
            version=header.version,
            address=address,
            observers=self._observe(),
            validated=verdict.validated,
            before_retry=original,
            make_token=self._tokens.for_later,
            make_id=self._make_id,
        )
        self.statistics.accepted += 1
        self._draining.expire(now)
        self._ids[connection] = {header.destination}
        self._by_id[header.destination] = connection
        self._admission.begin(connection, address, verdict.validated)
        return connection

    def _make_id(self) -> tuple[bytes, bytes]:
        connection_id = self._new_ids.make(self._random)
        return connection_id, self._resets.token(connection_id)

    def _update(self, connection: Connection, now: float) -> None:
        if connection.handshake_complete and self._admission.is_pending(connection):
            self.statistics.handshakes_completed += 1
            if not self._admission.complete(connection):
                self.statistics.refused[str(Decision.ADDRESS.value)] += 1
                connection.close(now, ErrorCode.CONNECTION_REFUSED, "too many from this address", application=False)
        added, removed = connection.connection_id_changes()
        ids = self._ids.get(connection)
        if ids is None:
            return
        for connection_id in added:
            self._by_id[connection_id] = connection
            ids.add(connection_id)
        for connection_id in removed:
            self._by_id.pop(connection_id, None)
            ids.discard(connection_id)


def _one_destination(buffer: Buffer, segment: int, id_length: int) -> bool:
    """True if all datagrams begin with the same form of header, and are for one connection ID of that length."""
    if buffer[0] & LONG_HEADER:
        end = 6 + buffer[5] if segment > 5 else segment
        known = buffer[5:end]
        return all(
            buffer[start] & LONG_HEADER and buffer[start + 5 : start + end] == known
            for start in range(segment, len(buffer), segment)
        )
    if any(first & LONG_HEADER for first in buffer[0::segment]):
        return False
    for column in range(1, 1 + id_length):  # each of the ID's columns is constant
        values = bytes(buffer[column::segment])
        if values.count(values[:1]) != len(values):
            return False
    return True
