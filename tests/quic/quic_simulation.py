"""Random transfers over random paths, by seed: every byte arrives, once and in order; nothing hangs, nothing leaks.

The client moves and is moved, keys are updated, versions negotiated, addresses proved (Retry), data sent early and
accepted or not; acknowledgements are asked for at either side's wish, datagrams pass, and streams are given up but for
their beginnings. There is one handshake.

python tests/quic/quic_simulation.py --seeds 10000
python tests/quic/quic_simulation.py --first 4711 --seeds 1
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from quic_pair import Pair, Side, SimulatedPath
from quic_surprises import Surprises, configurations, returning

from fairway.quic import QuicConfiguration
from fairway.quic import events as ev

OVERHEAD = 6.0
"""Bytes sent per byte that a lossless path would need: headers, repeats, probes."""


class Transfer:
    """One stream's data one way, written in pieces as the buffer allows."""

    def __init__(self, side: Side, stream_id: int, data: bytes, rng: random.Random) -> None:
        self.side, self.stream_id, self.data, self.rng = side, stream_id, data, rng
        self.offset = 0
        self.ended = False

    def push(self) -> None:
        """Write more, if there is room."""
        core = self.side.core
        assert core is not None
        while not self.ended:
            size = self.rng.choice((1, 100, 1000, 10_000, 100_000))
            piece = self.data[self.offset : self.offset + size]
            last = self.offset + len(piece) == len(self.data)
            accepted = core.write(self.stream_id, piece, end=last)
            self.offset += accepted
            if accepted < len(piece):
                return
            self.ended = last


def random_path(rng: random.Random) -> SimulatedPath:
    """A path that is bad in some of the ways that paths are."""
    delay = rng.choice((0.0001, 0.001, 0.01, 0.05, 0.3))
    path = SimulatedPath(delay=delay)
    if rng.random() < 0.5:
        path.loss = rng.choice((0.001, 0.01, 0.05, 0.2))
        path.burst = rng.choice((1, 1, 3))
    if rng.random() < 0.4:
        path.jitter = delay * rng.choice((0.1, 1.0, 3.0))
    if rng.random() < 0.3:
        path.duplication = rng.choice((0.01, 0.2))
    if rng.random() < 0.3:
        path.corruption = rng.choice((0.01, 0.1))
    if rng.random() < 0.3:
        path.rate = rng.choice((50_000.0, 1_000_000.0, 20_000_000.0))
        path.queue = rng.choice((20_000, 200_000))
    if rng.random() < 0.3:
        path.mtu = rng.choice((1200, 1300, 1400, 5000))
    if rng.random() < 0.4:
        congested = rng.choice((0.0, 0.01, 0.5))
        path.mark = rng.choice((lambda mark: 0, lambda mark: 3 if rng.random() < congested else mark))
    return path


def run_seed(seed: int) -> dict[str, float]:
    """One run; raises AssertionError where a promise is broken. Gives figures."""
    rng = random.Random(seed)
    mtu = rng.choice((1200, 1200, 1452, 8900))
    common = QuicConfiguration(
        udp_payload=mtu,
        handshake_timeout_s=600.0,
        idle_timeout_s=3600.0,  # a path that loses eight probes in a row makes the next wait for minutes
        keep_alive_s=5.0,  # who only receives and is moved by a NAT has to speak to be found again
        congestion=rng.choice(("cubic", "reno")),
        stream_window=rng.choice((4096, 65536, 1 << 20)),
        connection_window=rng.choice((8192, 131072, 3 << 19)),
        stream_window_cap=rng.choice((65536, 16 << 20)),
        max_streams_bidi=rng.choice((2, 8, 128)),
        send_buffer=rng.choice((2000, 1 << 20)),
    )
    there = random_path(rng)
    back = random_path(rng)
    back.delay = there.delay
    ours, theirs = configurations(rng, common)
    retry = rng.random() < 0.2
    options: dict[str, Any] = {"server_configuration": theirs, "retry": retry}
    early = rng.random() < 0.3
    accepted = False
    if early:
        known, endpoint, now, accepted = returning(rng, seed, ours, theirs, retry=retry)
        options = {"endpoint": endpoint, "now": now, "server": known, "early_data": True}
    segments = rng.choice((1, 10, 64))
    pair = Pair(ours, seed=seed, there=there, back=back, connect=False, max_segments=segments, **options)
    if not early:
        pair.run(lambda: pair.connected, limit_s=600)
    assert pair.client.core is not None
    assert pair.client.core.early is early
    surprises = Surprises(pair, rng)
    transfers: list[Transfer] = []
    expected: dict[tuple[str, int], bytes] = {}
    total = 0

    def start(side: Side, stream_id: int, peer: Side) -> None:
        nonlocal total
        size = rng.choice((0, 1, 100, 5000, 50_000, 300_000))
        data = rng.randbytes(size)
        total += size
        transfers.append(Transfer(side, stream_id, data, rng))
        expected[(peer.name, stream_id)] = data

    wanted = rng.randrange(1, 9)
    opened = {"client": 0, "server": 0}
    answered: set[int] = set()

    def turn() -> None:
        for side, peer in ((pair.client, pair.server), (pair.server, pair.client)):
            if side.core is None:
                continue
            assert side.core.closing is None, side.core.closing
            limit = wanted if side is pair.client else wanted // 2
            while opened[side.name] < limit:
                stream_id = side.core.open_stream(unidirectional=rng.random() < 0.3)
                if stream_id is None:
                    break
                opened[side.name] += 1
                start(side, stream_id, peer)
            for event in side.of(ev.StreamOpened):
                assert isinstance(event, ev.StreamOpened)
                if not event.stream_id & 2 and event.stream_id not in answered:
                    answered.add(event.stream_id)
                    start(side, event.stream_id, peer)
        for transfer in transfers:
            if not transfer.ended:
                transfer.push()
        if rng.random() < 0.001:
            there.delay = back.delay = there.delay * rng.choice((0.5, 2.0))
            there.delay = back.delay = min(there.delay, 1.0)
        surprises.turn()

    pair.on_turn = turn
    turn()

    def done() -> bool:
        if (
            not pair.connected
            or opened["client"] < wanted
            or opened["server"] < wanted // 2
            or not all(t.ended for t in transfers)
        ):
            return False
        for (name, stream_id), data in expected.items():
            side = pair.client if name == "client" else pair.server
            if stream_id not in side.ended or len(side.received.get(stream_id, b"")) < len(data):
                return False
        bidirectional = {sid for (_, sid) in expected if not sid & 2}
        return all(("client", sid) in expected and ("server", sid) in expected for sid in bidirectional)

    begun = pair.now
    pair.run(done, limit_s=3600)
    took = pair.now - begun
    for (name, stream_id), data in expected.items():
        side = pair.client if name == "client" else pair.server
        assert bytes(side.received[stream_id]) == data, f"stream {stream_id} at the {name} differs"
    pair.on_turn = None
    surprises.finish()
    pair.run(lambda: not _remains(pair), limit_s=600)
    surprises.check()
    if early:
        judged = pair.client.of(ev.EarlyDataAccepted if accepted else ev.EarlyDataRejected)
        assert len(judged) <= 1
        assert accepted or not pair.client.of(ev.EarlyDataAccepted)
    links = pair.links.values()
    sent = sum(link.there.bytes + link.back.bytes for link in links)
    worst = max(there.loss + there.corruption, back.loss + back.corruption)
    useful = total + surprises.extra_bytes + 60_000 + 10_000 * surprises.moves
    bound = OVERHEAD * (1 + early) * useful / (1 - worst) ** 2
    assert sent <= bound, f"{sent} bytes were sent for {total}"
    return {"bytes": total, "sent": sent, "seconds": took, "moves": surprises.moves, "updates": surprises.updates}


def _remains(pair: Pair) -> bool:
    for side in (pair.client, pair.server):
        assert side.core is not None
        figures = side.core.statistics()
        if figures["streams"] or figures["bytes_in_flight"] or figures["stream_bytes_kept"]:
            return True
    return False


def main() -> int:
    """Run seeds and tell which ones fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10_000)
    options = parser.parse_args()
    failed = 0
    begun = time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        try:
            run_seed(seed)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"seed {seed} failed: repeat with  python tests/quic/quic_simulation.py --first {seed} --seeds 1")
        done = seed - options.first + 1
        if done % 500 == 0:
            print(f"{done} runs, {failed} failed, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{options.seeds} runs, {failed} failed, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
