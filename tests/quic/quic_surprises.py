"""What happens to a simulated connection besides transfers.

It moves, keys change, datagrams pass, streams are given up but for their beginnings, it comes back.
"""

from __future__ import annotations

import random
from dataclasses import replace

from quic_pair import Pair, Side, SimulatedPath, identity

from fairway.quic import Endpoint, KnownServer, MemorySessionStore, Phase, QuicConfiguration, UsageError
from fairway.quic import events as ev
from fairway.quic.packets.headers import VERSION_1, VERSION_2
from fairway.tls import ServerConfig, Tickets

SERVER = ("localhost", 443, ("test",))
MOST_RESETS = 30
MOST_DATAGRAMS = 2000  # each that arrives is a turn, at which another may leave
HOSTS = ("192.0.2.1", "198.51.100.1", "203.0.113.7")

_TWO_FIRST = (VERSION_2, VERSION_1)
VERSIONS = (  # what the client speaks and begins with, what the server speaks
    (None, None, None),
    (None, None, _TWO_FIRST),  # compatible, to 2
    (_TWO_FIRST, VERSION_1, _TWO_FIRST),
    (_TWO_FIRST, None, (VERSION_1, VERSION_2)),  # compatible, to 1
    (_TWO_FIRST, None, (VERSION_1,)),  # incompatible, to 1
    ((VERSION_1, VERSION_2), None, (VERSION_2,)),  # incompatible, to 2
    ((VERSION_2,), None, None),
)


def configurations(rng: random.Random, common: QuicConfiguration) -> tuple[QuicConfiguration, QuicConfiguration]:
    """The client's and the server's: they may differ in what they speak and ask for."""
    client, first, server = rng.choice(VERSIONS)
    ours = replace(
        common,
        versions=client,
        first_version=first,
        ack_frequency=rng.random() < 0.7,
        spin_bit=rng.random() < 0.5,
        max_datagram_frame_size=rng.choice((0, 65535)),
    )
    theirs = replace(
        common,
        versions=server,
        ack_frequency=rng.random() < 0.7,
        spin_bit=rng.random() < 0.5,
        max_datagram_frame_size=rng.choice((0, 65535)),
    )
    return ours, theirs


def returning(
    rng: random.Random, seed: int, client: QuicConfiguration, server: QuicConfiguration, *, retry: bool
) -> tuple[KnownServer, Endpoint, float, bool]:
    """A visit that leaves a ticket: what the next one needs, and whether its early data can be accepted.

    It is not where the server has other keys by then, or allows less than it did.
    """
    store = MemorySessionStore()
    tls = ServerConfig((identity(),), ("test",), tickets=Tickets(early_data=True))
    before = Pair(client, server_configuration=server, server_tls=tls, server=KnownServer(store, SERVER), seed=seed)
    before.run_for(2.0)
    good = rng.random() < 0.6
    if not good and rng.random() < 0.5:
        tls = ServerConfig((identity(),), ("test",), tickets=Tickets(early_data=True))
    elif not good:
        server = replace(server, stream_window=server.stream_window // 2)
    endpoint = Endpoint(tls, server, random=before.rng.randbytes, clock=before.clock, retry=retry)
    return KnownServer(store, SERVER), endpoint, before.now, good


class Surprises:
    """Does something unasked now and then, at a turn of the simulation."""

    def __init__(self, pair: Pair, rng: random.Random) -> None:
        self._pair = pair
        self._rng = rng
        self._rebinds = rng.choice((0.0, 0.0, 0.002, 0.02))
        self._migrates = rng.choice((0.0, 0.0, 0.003))
        self._updates = rng.choice((0.0, 0.0, 0.01, 0.1))
        self._datagrams = rng.choice((0.0, 0.05, 0.5))
        self._resets = rng.choice((0.0, 0.0, 0.01, 0.1))
        self.moves = 0
        self.updates = 0
        self.extra_bytes = 0
        """Of datagrams, and of streams that were reset."""
        self._sent: dict[str, set[bytes]] = {"client": set(), "server": set()}
        self._links = 0
        self._promised: dict[tuple[str, int], bytes] = {}
        self._unreset: list[tuple[Side, int]] = []

    @property
    def moving(self) -> bool:
        """Whether somebody who only receives may have to speak to be found again."""
        return self._rebinds > 0 or self._migrates > 0

    def turn(self) -> None:
        """One turn."""
        chance = self._rng.random
        if chance() < self._rebinds and self._pair.connected:  # before that nobody moves: RFC 9000 section 9
            self._rebind()
        if chance() < self._migrates:
            self._migrate()
        for side in (self._pair.client, self._pair.server):
            core = side.core
            if core is None:
                continue
            if chance() < self._updates:
                self.updates += core.update_keys(self._pair.now)
            few = len(self._sent[side.name]) < MOST_DATAGRAMS
            if chance() < self._datagrams and few and core.max_datagram_size:
                data = self._rng.randbytes(self._rng.choice((8, 100, 1000)))[: core.max_datagram_size]
                if len(data) >= 8 and core.send_datagram(data):
                    self._sent[side.name].add(data)
                    self.extra_bytes += len(data)
            if chance() < self._resets and self._pair.connected:  # before that nobody knows whether the peer takes it
                self._promise(side)
        if self._unreset and chance() < 0.2:
            self._reset()

    def finish(self) -> None:
        """There will be no more turns."""
        while self._unreset:
            self._reset()

    def _promise(self, side: Side) -> None:
        """Begin a stream that will be reset; its beginning must arrive."""
        core, rng = side.core, self._rng
        assert core is not None
        stream_id = core.open_stream(unidirectional=True) if len(self._promised) < MOST_RESETS else None
        if stream_id is None:
            return
        data = rng.randbytes(rng.choice((0, 1, 100, 10_000)))
        committed = core.write(stream_id, data)
        core.commit(stream_id)
        self._promised[(side.name, stream_id)] = data[:committed]
        self.extra_bytes += committed + core.write(stream_id, bytes(rng.choice((0, 100, 10_000))))
        self._unreset.append((side, stream_id))

    def _reset(self) -> None:
        side, stream_id = self._unreset.pop(self._rng.randrange(len(self._unreset)))
        assert side.core is not None
        side.core.reset(stream_id, stream_id)

    def _rebind(self) -> None:
        """The network shows the client under another address; the one before leads nowhere."""
        core = self._pair.client.core
        assert core is not None
        self._pair.rebind((self._rng.choice(HOSTS[:2]), self._rng.randrange(1024, 65536)), core.path.local)
        self.moves += 1

    def _migrate(self) -> None:
        """The client moves on purpose, after a probe or without, or only asks; links that it left may die."""
        pair, rng = self._pair, self._rng
        core = pair.client.core
        assert core is not None
        validated = [event for event in pair.client.of(ev.PathValidated) if isinstance(event, ev.PathValidated)]
        known = validated[-1].local if validated else None
        if known is not None and known in pair.links and known != core.path.local and rng.random() < 0.7:
            local: object = known
        else:
            self._links += 1
            local = f"link {self._links}"
            delay = min(pair.there.delay * rng.choice((0.5, 1.0, 2.0)), 0.6)  # validation waits for three timeouts
            path = SimulatedPath(delay=delay, loss=pair.there.loss)
            pair.add_link(local, (rng.choice(HOSTS), rng.randrange(1024, 65536)), path)
        try:
            if local == known or rng.random() < 0.5:
                core.migrate(pair.now, local)
            else:
                core.probe_path(pair.now, local)
        except UsageError:  # not confirmed yet, or no connection ID is left for another path
            return
        self.moves += 1

    def check(self, *, handshakes: int = 1) -> None:
        """What must hold in the end: one handshake, one version, no datagram twice or from nowhere, promises kept."""
        versions = set()
        for side, peer in ((self._pair.client, self._pair.server), (self._pair.server, self._pair.client)):
            completed = side.of(ev.HandshakeCompleted)
            assert len(completed) == handshakes
            versions |= {event.version for event in completed if isinstance(event, ev.HandshakeCompleted)}
            received = [event.data for event in side.of(ev.DatagramReceived) if isinstance(event, ev.DatagramReceived)]
            assert len(set(received)) == len(received), "a datagram came twice"
            assert self._sent[peer.name].issuperset(received), "a datagram came that nobody sent"
            assert side.core is not None
            assert side.core.phase is Phase.CONFIRMED
            resets = [event for event in side.of(ev.StreamResetReceived) if isinstance(event, ev.StreamResetReceived)]
            promised = {stream_id: data for (name, stream_id), data in self._promised.items() if name == peer.name}
            assert sorted(event.stream_id for event in resets) == sorted(promised), "a reset is missing, or came twice"
            for event in resets:
                assert event.code == event.stream_id
                assert bytes(side.received.get(event.stream_id, b"")).startswith(promised[event.stream_id])
        assert len(versions) == 1
