"""What one node of a full mesh of 5,000 pays: memory for its peers; messages, bytes and time for a change of a route.

One real node with a session to each of 4,999 others, whose own sides are as small as the protocol allows: bytes go from
one to the other by a function call. What QUIC and the kernel cost comes on top: quic_memory and route_convergence.
"""

from __future__ import annotations

import gc
import itertools
import os
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bench.result import Result
from fairway.net.exchange import Channel, Endpoint, Exchange, Permit, Session
from fairway.net.exchange.messages import Announce, Announcement, Hello, TableBegin, TableEnd, TableEntries, encode

NODES = 5_000
CHANGES = 10
LARGE_TABLE = 1_000
NETWORK = b"a-network-of-500"
POOL = IPv4Network("10.0.0.0/8")


def run() -> Result:
    """Bytes and messages are exact; times are CPU time of this process."""
    result = Result("exchange_scale")
    before = _resident_bytes()
    started = time.process_time()
    node = Exchange("n0", NETWORK, 1, jitter=lambda: 0.5)
    sessions = [_join(node, number) for number in range(1, NODES)]
    joined = time.process_time() - started
    result.add("fairway", f"memory a peer, with its block ({NODES} nodes)", [(_resident_bytes() - before) / NODES], "B")
    result.add("fairway", "a peer joins: CPU time", [joined / NODES * 1e6], "us")
    assert len(node.routes()) == NODES - 1
    for session in sessions:
        _drain(session)  # who else has joined
    _told(result, node, sessions)
    _heard(result, node, sessions)
    _large(result, node, sessions[0])
    result.notes.append("one node; in the whole mesh each of the others takes in what a changed node tells, once")
    result.notes.append("bytes are of the exchange; QUIC, UDP and IP add about 65 to each packet")
    return result


def _join(node: Exchange, number: int) -> Session:
    """A peer that has a connection, says hello, and announces its block."""
    name = f"n{number}"
    address = IPv4Address(0x64400000 + number)
    block = IPv4Network((0x0A000000 + number * 256, 24))
    where = (Endpoint(address, 7946),)
    session = node.peers.connect(Permit(name, (block,), (POOL,)), where[0])
    hello = Hello(NETWORK, name, 1, where, members=NODES)
    session.stream().receive(bytes((Channel.CONTROL,)) + encode(hello), 0.0)
    table = encode(TableBegin(1, 1)) + encode(TableEntries((Announcement(block, 1),))) + encode(TableEnd())
    session.stream().receive(bytes((Channel.TABLE,)) + table, 0.0)
    _drain(session)
    node.rib.take_changed()
    return session


def _drain(session: Session) -> list[bytes]:
    sent = []
    while pending := session.pending():
        sent += [session.next(channel) for channel in pending]
    return sent


def _told(result: Result, node: Exchange, sessions: list[Session]) -> None:
    """Our own change, told to everybody."""
    for what, change in (("announced", node.announce), ("withdrawn", lambda prefix, now: node.withdraw(prefix))):
        times, messages, size = [], 0, 0
        for number in range(CHANGES):
            started = time.process_time()
            change(IPv4Network((0x0A800000 + number, 32)), 0.0)
            sent = list(itertools.chain.from_iterable(map(_drain, sessions)))
            times.append((time.process_time() - started) * 1000)
            messages, size = messages + len(sent), size + sum(map(len, sent))
        result.add("fairway", f"a route {what}: messages to {NODES - 1} peers", [messages / CHANGES], "")
        result.add("fairway", f"a route {what}: bytes to {NODES - 1} peers", [size / CHANGES], "B")
        result.add("fairway", f"a route {what}: CPU time of its node", times, "ms")


def _heard(result: Result, node: Exchange, sessions: list[Session]) -> None:
    """A peer's change, taken in."""
    times: list[float] = []
    node.rib.take_changed()
    for session in sessions[:1000]:
        stream = session.stream()
        announcement = Announcement(IPv4Network((0x0A900000 + len(times), 32)), 2)
        data = bytes((Channel.ANNOUNCEMENTS,)) + encode(Announce(1, 1, 2, (announcement,)))
        started = time.process_time_ns()
        stream.receive(data, 0.0)
        changed = [node.route(prefix) for prefix in node.rib.take_changed()]
        times.append((time.process_time_ns() - started) / 1000)
        assert len(changed) == 1
    result.add("fairway", "a peer's route taken in: CPU time", times, "us")


def _large(result: Result, node: Exchange, session: Session) -> None:
    """A table of many single addresses."""
    own = [IPv4Network((0x0AA00000 + number, 32)) for number in range(LARGE_TABLE)]
    for prefix in own:
        node.announce(prefix, 0.0)
    sent = _drain(session)
    result.add("fairway", f"{LARGE_TABLE} routes to one peer: messages", [len(sent)], "")
    result.add("fairway", f"{LARGE_TABLE} routes to one peer: bytes", [sum(map(len, sent))], "B")


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
