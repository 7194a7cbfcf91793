"""Nodes that exchange routes over connections that exist only here: every stream is a queue, the test owns the clock.

What one stream has sent arrives in order; streams overtake each other as the test pleases. A connection whose pair is
cut off delivers nothing until it is healed, or lost by either side.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from fairway.net.exchange import (
    Channel,
    CloseCode,
    Endpoint,
    Exchange,
    Incoming,
    Loss,
    Permit,
    Session,
    Settings,
    State,
)
from fairway.net.model.facts import IPNetwork

NETWORK = b"the-test-network"
POOL = ip_network("10.0.0.0/16")
RESTART_S = 20.0


def block_of(number: int) -> IPNetwork:
    return ip_network(f"10.0.{number}.0/24")


def permit_of(number: int) -> Permit:
    return Permit(f"n{number}", (block_of(number),), (POOL,), serial=number)


class Node:
    """A node and, while it runs, its exchange."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"n{number}"
        self.endpoint = Endpoint(ip_address(f"192.0.2.{number + 1}"), 7000)
        self.permit = permit_of(number)
        self.exchange: Exchange | None = None
        self.epoch = 0
        self.announced: dict[IPNetwork, int] = {}
        """What it should announce while it runs: the prefix and its version."""

    @property
    def running(self) -> bool:
        return self.exchange is not None


@dataclass(eq=False)
class End:
    """One side of a connection."""

    node: Node
    exchange: Exchange
    session: Session
    alive: bool = True
    sent: dict[Channel, deque[bytes]] = field(default_factory=lambda: {channel: deque() for channel in Channel})
    """What this side has sent and the other has not received."""
    incoming: dict[Channel, Incoming] = field(default_factory=dict)


@dataclass(eq=False)
class Connection:
    caller: End
    called: End

    @property
    def ends(self) -> tuple[End, End]:
        return (self.caller, self.called)

    def other(self, end: End) -> End:
        return self.called if end is self.caller else self.caller

    @property
    def over(self) -> bool:
        return not self.caller.alive and not self.called.alive


class World:
    """All of it. `rest` lets everything happen that will happen by itself."""

    def __init__(self, count: int, *, room: int = 1 << 30) -> None:
        self.now = 100.0
        self.nodes = [Node(number) for number in range(count)]
        self.connections: list[Connection] = []
        self.blocked: set[tuple[Node, Node]] = set()
        self.room = room
        self.messages = 0
        self.bytes = 0
        self._lives = 0
        self._jitter = itertools.cycle([0.1, 0.7, 0.4, 0.9, 0.2])
        self.gone: dict[tuple[int, str, IPNetwork], tuple[int, int]] = {}
        self.seen: dict[tuple[int, str, IPNetwork], tuple[int, int]] = {}

    # Nodes

    def start(self, node: Node, *, lost_epoch: bool = False, seeds: tuple[int, ...] = (0,)) -> None:
        self._lives += 1  # two lives have the same epoch only by a clock that is set back to the millisecond
        node.epoch = self._lives if lost_epoch else 1000 + self._lives
        exchange = Exchange(
            node.name,
            NETWORK,
            node.epoch,
            jitter=lambda: next(self._jitter),
            endpoints=(node.endpoint,),
            settings=Settings(restart_s=RESTART_S),
        )
        for seed in seeds:
            if seed != node.number:
                exchange.directory.add_seed(self.nodes[seed].endpoint)
        node.exchange = exchange
        for prefix, version in node.announced.items():
            exchange.announce(prefix, self.now, version=version)

    def crash(self, node: Node) -> None:
        """Without a word; whoever was connected finds out."""
        node.exchange = None
        for connection in self.connections:
            for end in connection.ends:
                if end.node is node:
                    end.alive = False

    def stop(self, node: Node, code: CloseCode = CloseCode.RESTARTING) -> None:
        """In order: every peer is told."""
        assert node.exchange is not None
        for connection in list(self.connections):
            for end in connection.ends:
                if end.node is node and end.alive:
                    end.session.close(code)
                    self._close(connection, end)
        node.exchange = None

    def announce(self, node: Node, prefix: IPNetwork, *, version: int = 0) -> None:
        node.announced[prefix] = version
        if node.exchange is not None:
            node.exchange.announce(prefix, self.now, version=version)

    def withdraw(self, node: Node, prefix: IPNetwork) -> None:
        node.announced.pop(prefix, None)
        if node.exchange is not None:
            node.exchange.withdraw(prefix)

    # The network

    def reachable(self, a: Node, b: Node) -> bool:
        return (a, b) not in self.blocked and (b, a) not in self.blocked

    def call(self) -> None:
        """Everybody calls whom they want to call."""
        for node in self.nodes:
            if node.exchange is None:
                continue
            for call in node.exchange.calls(self.now):
                for endpoint in call.endpoints:
                    target = next((other for other in self.nodes if other.endpoint == endpoint), None)
                    if target is None or target is node or not target.running or not self.reachable(node, target):
                        continue
                    self.connect(node, target)
                    break

    def connect(self, a: Node, b: Node) -> Connection:
        assert a.exchange is not None
        assert b.exchange is not None
        caller = a.exchange.peers.connect(b.permit, b.endpoint, dialled=b.endpoint)
        called = b.exchange.peers.connect(a.permit, a.endpoint)
        connection = Connection(End(a, a.exchange, caller), End(b, b.exchange, called))
        self.connections.append(connection)
        return connection

    def send(self, end: End, channel: Channel) -> bool:
        """Let one side send one message, if there is one and its stream has room."""
        if not end.alive or sum(map(len, end.sent[channel])) >= self.room or channel not in end.session.pending():
            return False
        data = end.session.next(channel)
        self.messages += 1
        self.bytes += len(data)
        prefix = b"" if channel in self._opened(end) else bytes((channel,))
        self._opened(end).add(channel)
        end.sent[channel].append(prefix + data)
        return True

    def _opened(self, end: End) -> set[Channel]:
        return end.__dict__.setdefault("opened", set())

    def deliver(self, connection: Connection, sender: End, channel: Channel, *, part: float = 1.0) -> bool:
        """Let the other side receive what comes next on one of its streams."""
        receiver = connection.other(sender)
        if not sender.sent[channel] or not receiver.alive or not self.reachable(sender.node, receiver.node):
            return False
        data = sender.sent[channel].popleft()
        cut = max(1, int(len(data) * part))
        if cut < len(data):
            sender.sent[channel].appendleft(data[cut:])
        incoming = receiver.incoming.get(channel)
        if incoming is None:
            incoming = receiver.incoming[channel] = receiver.session.stream()
        incoming.receive(data[:cut], self.now)
        self.settle()
        return True

    def settle(self) -> None:
        """Sessions that were closed on one side close their connection."""
        for connection in list(self.connections):
            for end in connection.ends:
                if end.alive and end.session.state is State.CLOSED:
                    self._close(connection, end)
            if connection.over:
                self.connections.remove(connection)

    def _close(self, connection: Connection, end: End) -> None:
        code = (end.session.closing or (CloseCode.NONE, ""))[0]
        end.alive = False
        end.exchange.peers.lost(end.session, Loss.REPLACED, self.now)
        other = connection.other(end)
        if other.alive and self.reachable(end.node, other.node):
            other.alive = False
            loss = {CloseCode.LEAVING: Loss.LEFT, CloseCode.RESTARTING: Loss.RESTARTING}.get(code, Loss.REPLACED)
            other.exchange.peers.lost(other.session, loss, self.now)

    def notice(self, connection: Connection, end: End, *, host_answers: bool = False) -> bool:
        """One side finds that the other is silent; only where that is so."""
        other = connection.other(end)
        if not end.alive or (other.alive and self.reachable(end.node, other.node)):
            return False
        end.alive = False
        end.exchange.peers.lost(end.session, Loss.SILENT, self.now)
        if host_answers:
            end.exchange.peers.host_answers(other.node.name)
        return True

    def elapse(self, seconds: float) -> None:
        self.now += seconds
        for node in self.nodes:
            if node.exchange is not None:
                node.exchange.handle_timeout(self.now)

    def rest(self, seconds: float = 2 * RESTART_S) -> None:
        """Let so much time pass, with everything that happens by itself."""
        end = self.now + seconds
        while self.now < end:
            self.call()
            busy = True
            while busy:
                busy = False
                self.settle()
                for connection in list(self.connections):
                    for side in connection.ends:
                        self.notice(connection, side)
                        for channel in Channel:
                            while self.send(side, channel) or self.deliver(connection, side, channel):
                                busy = True
            self.watch()
            self.elapse(0.5)

    # What must hold

    def watch(self) -> None:
        """Nothing that a node has seen withdrawn comes back, and no older announcement replaces a newer one."""
        for node in self.nodes:
            if node.exchange is None:
                continue
            now: dict[tuple[int, str, IPNetwork], tuple[int, int]] = {}
            for entry in node.exchange.rib.all():
                key = (id(node.exchange), entry.node, entry.announcement.prefix)
                now[key] = (entry.epoch, entry.announcement.sequence)
            for key, at in now.items():
                assert at >= self.seen.get(key, at) or at[0] < self.seen[key][0], f"{key} went back to {at}"
                gone = self.gone.get(key)
                assert gone is None or gone[0] != at[0] or at > gone, f"{key} rose from the dead: {at}"
            for key in [key for key in self.seen if key[0] == id(node.exchange) and key not in now]:
                peer = node.exchange.peers.get(key[1])
                if peer is not None and peer.replica.complete:
                    self.gone[key] = self.seen[key]
                del self.seen[key]
            self.seen.update(now)

    def check(self) -> None:
        """Every running node has a route to exactly what the others announce, to the one that should have it."""
        running = [node for node in self.nodes if node.running]
        for node in running:
            assert node.exchange is not None
            best: dict[IPNetwork, tuple[int, str]] = {}
            for other in running:
                for prefix, version in other.announced.items():
                    best[prefix] = min(best.get(prefix, (1, "")), (-version, other.name))
            expected = {prefix: name for prefix, (_, name) in best.items() if name != node.name}
            found = {route.prefix: route.node for route in node.exchange.routes()}
            assert found == expected, f"{node.name} at {self.now}"
            assert not [route for route in node.exchange.routes() if route.stale]
