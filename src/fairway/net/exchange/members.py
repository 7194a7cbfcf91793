"""Who else is in the network, and whom to call when. What others tell is a hint; a certificate says who somebody is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from fairway.net.exchange import limits
from fairway.net.exchange.messages import Endpoint, Member

_BROADCAST = IPv4Address("255.255.255.255")


@dataclass(slots=True)
class Known:
    """A node of which we know."""

    name: str
    own: tuple[Endpoint, ...] = ()
    """What it said itself."""
    told: tuple[Endpoint, ...] = ()
    """What somebody else said last: tried after what it said itself."""
    heard: float = 0.0
    """When it was last spoken with, by us or by who told us."""
    connected: bool = False
    since: float = 0.0
    """When the session began."""
    next_call: float = 0.0
    wait_s: float = limits.DIAL_FIRST_S
    attempts: int = 0
    """How often it was called."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where to call it, in order."""
        return tuple(dict.fromkeys((*self.own, *self.told)))


@dataclass(slots=True)
class Seed:
    """An address that the configuration names; who lives there is known once it was reached."""

    endpoint: Endpoint
    name: str = ""
    next_call: float = 0.0
    wait_s: float = limits.DIAL_FIRST_S


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody to be called now. `name` is empty where it is not known who lives there."""

    name: str
    endpoints: tuple[Endpoint, ...]
    hearsay: bool = False
    """Whether only others have told of it: such calls must not hold up the rest."""


@dataclass(slots=True)
class Directory:
    """The members of the network, as one node knows them. `jitter` gives numbers from 0 to 1."""

    name: str
    jitter: Callable[[], float]
    known: dict[str, Known] = field(default_factory=dict)
    seeds: dict[Endpoint, Seed] = field(default_factory=dict)
    _absent: dict[str, Known] = field(default_factory=dict)
    """Those of `known` without a session: in a large network few, and only they have to be looked at."""
    _hearsay: dict[str, Known] = field(default_factory=dict)
    """Those of `known` that never spoke with us, the oldest first."""

    def add_seed(self, endpoint: Endpoint) -> None:
        """An address to call until whoever lives there is connected."""
        self.seeds.setdefault(endpoint, Seed(endpoint))

    def said(self, name: str, endpoints: tuple[Endpoint, ...], now: float) -> None:
        """A node said itself where it is."""
        known = self._know(name, now, itself=True)
        if known is not None:
            known.own, known.heard = _callable(endpoints), now
            self._hearsay.pop(name, None)

    def told(self, members: Iterable[Member], now: float) -> None:
        """A peer told of others with whom it speaks."""
        for member in members:
            if member.node != self.name and (known := self._know(member.node, now)) is not None:
                known.told, known.heard = _callable(member.endpoints), now

    def connected(self, name: str, via: Endpoint | None, now: float) -> None:
        """There is a session with `name`; `via` is the address that was called."""
        known = self.known.get(name)
        if known is not None:
            known.connected, known.since = True, now
            known.wait_s = min(known.wait_s, limits.DIAL_LONGEST_S)
            self._absent.pop(name, None)
        seed = None if via is None else self.seeds.get(via)
        if seed is not None:
            seed.name, seed.wait_s = name, limits.DIAL_FIRST_S

    def disconnected(self, name: str, now: float) -> None:
        """The session is lost: call, the lower name first; at once if it was a good one."""
        known = self.known.get(name)
        if known is not None:
            known.connected, known.heard = False, now
            wait_s = limits.DIAL_FIRST_S if self.name > name else 0.0
            if now - known.since >= limits.STABLE_S:
                known.wait_s = limits.DIAL_FIRST_S
            else:  # whoever has no time to keep a session has none for many new ones
                wait_s += known.wait_s
            known.next_call = now + wait_s
            self._absent[name] = known

    def refused(self, name: str, via: Endpoint | None, now: float) -> None:
        """Whoever was called does not want us."""
        for what in (self.known.get(name), None if via is None else self.seeds.get(via)):
            if what is not None:
                what.next_call = now + limits.DIAL_REFUSED_S

    def forget(self, name: str) -> None:
        """The node is no member any more."""
        for members in (self.known, self._absent, self._hearsay):
            members.pop(name, None)

    def misled(self, name: str, now: float) -> None:
        """Somebody else lives where `name` was said to be."""
        known = self._hearsay.get(name)
        if known is not None:
            known.next_call = now + limits.DIAL_MISLED_S

    def due(self, now: float) -> list[Call]:
        """Whom to call now; each is due again later, unless `connected` says otherwise."""
        calls: dict[tuple[Endpoint, ...], Call] = {}
        for known in list(self._absent.values()):
            if now - known.heard > limits.FORGET_S:
                self.forget(known.name)
            elif known.endpoints and known.next_call <= now:
                known.attempts += 1
                hearsay = known.name in self._hearsay
                self._again(known, now, limits.DIAL_HEARSAY_S if hearsay else limits.DIAL_LONGEST_S)
                calls[known.endpoints] = Call(known.name, known.endpoints, hearsay)
        for seed in self.seeds.values():
            who = self.known.get(seed.name)
            if (who is None or not who.connected) and seed.next_call <= now:
                self._again(seed, now, limits.DIAL_LONGEST_S)
                calls.setdefault((seed.endpoint,), Call("", (seed.endpoint,)))
        return list(calls.values())

    def next_timeout(self) -> float | None:
        """When `due` has something to give."""
        times = [known.next_call for known in self._absent.values() if known.endpoints]
        for seed in self.seeds.values():
            who = self.known.get(seed.name)
            if who is None or not who.connected:
                times.append(seed.next_call)
        return min(times, default=None)

    @property
    def connections(self) -> int:
        """How many members have a session with us."""
        return len(self.known) - len(self._absent)

    def speaking_with(self) -> list[Member]:
        """The members that have a session with us, with what they say of themselves."""
        return [Member(known.name, known.own) for known in self.known.values() if known.connected and known.own]

    def _know(self, name: str, now: float, *, itself: bool = False) -> Known | None:
        known = self.known.get(name)
        if known is None and (itself or self._has_room()):
            later = limits.DIAL_YIELD_S if self.name > name else 0.0  # of two, the lower name calls
            known = self.known[name] = self._absent[name] = Known(name, next_call=now + later)
            if not itself:
                self._hearsay[name] = known
        return known

    def _has_room(self) -> bool:
        """Whether one more that was only told of is taken in, perhaps in the place of one that was called in vain."""
        if len(self._hearsay) >= limits.MAX_HEARSAY:
            oldest = next(iter(self._hearsay.values()))
            if oldest.attempts < limits.HEARSAY_ATTEMPTS:
                return False
            self.forget(oldest.name)
        return len(self.known) < limits.MAX_MEMBERS

    def _again(self, what: Known | Seed, now: float, longest_s: float) -> None:
        what.next_call = now + what.wait_s * (0.75 + self.jitter() / 2)
        what.wait_s = min(what.wait_s * 2, longest_s)


def _callable(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Those at which a host may be: what members tell must not make us send to everybody on a link."""
    return tuple(
        each
        for each in endpoints
        if each.port and not (each.address.is_multicast or each.address.is_unspecified or each.address == _BROADCAST)
    )
