"""Alternative services (RFC 7838): where an origin can be had by HTTP/3 too, as it said itself; no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from fairway.http.client.limits import (
    BROKEN_CAP_S,
    BROKEN_S,
    DEFAULT_MAX_AGE_S,
    MAX_AGE_CAP_S,
    MAX_ALT_SVC_BYTES,
    MAX_ALTERNATIVES,
)

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ENTRY = re.compile(rf"\s*({_TOKEN})=({_QUOTED})((?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*)\s*(?:,|\Z)")
_PARAMETER = re.compile(rf"({_TOKEN})=({_TOKEN}|{_QUOTED})")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-_]*):([0-9]{1,5})").fullmatch

Origin = tuple[str, int]
"""Host in lower case and port of an https origin."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Host and UDP port where the origin's HTTP/3 is."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Offer:
    """One entry of an Alt-Svc field; `host` is empty for the origin's own."""

    protocol: str
    host: str
    port: int
    max_age_s: int


def parse(value: str) -> list[Offer] | None:
    """The entries of an Alt-Svc field, in its order of preference; None for `clear`, [] if it is not well-formed."""
    value = value[:MAX_ALT_SVC_BYTES].strip()
    if value == "clear":  # case-sensitive: section 3
        return None
    offers: list[Offer] = []
    at = 0
    while at < len(value):
        entry = _ENTRY.match(value, at)
        if entry is None:
            return []
        at = entry.end()
        offer = _offer(*entry.groups())
        if offer is not None:
            offers.append(offer)
    return offers


def _offer(protocol: str, authority: str, parameters: str) -> Offer | None:
    where = _AUTHORITY(_unquote(authority))
    if where is None or not 0 < int(where[2]) < 65536:
        return None
    max_age = DEFAULT_MAX_AGE_S
    for name, given in _PARAMETER.findall(parameters):
        if name.lower() == "ma":
            text = _unquote(given)
            if not re.fullmatch(r"[0-9]{1,18}", text):
                return None
            max_age = min(int(text), MAX_AGE_CAP_S)
    name = unquote_to_bytes(protocol).decode("ascii", "replace")
    return Offer(name, where[1].strip("[]").lower(), int(where[2]), max_age)


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


class AltSvcCache:
    """What origins said, until it expires; and which alternatives did not answer. Times are of one monotonic clock."""

    def __init__(self, capacity: int = MAX_ALTERNATIVES) -> None:
        self._capacity = capacity
        self._known: dict[Origin, tuple[Alternative, float]] = {}
        self._broken: dict[tuple[Origin, Alternative], tuple[float, int]] = {}

    def learn(self, origin: Origin, value: str, now: float, *, other_hosts: bool = True) -> None:
        """Take an Alt-Svc field of a response of `origin`; it replaces what was known (section 3.1).

        Alternatives on other hosts count only with `other_hosts`: not where nobody's certificate is looked at.
        """
        offers = parse(value)
        if offers is None:
            self._known.pop(origin, None)
            return
        for offer in offers:
            host = offer.host or origin[0]
            if offer.protocol == "h3" and (other_hosts or host == origin[0]):
                self._known.pop(origin, None)
                if offer.max_age_s:
                    self._known[origin] = (Alternative(host, offer.port), now + offer.max_age_s)
                    _trim(self._known, self._capacity)
                return
        if offers:
            self._known.pop(origin, None)

    def find(self, origin: Origin, now: float) -> Alternative | None:
        """The alternative of an origin, if it is fresh and not known to be broken."""
        entry = self._known.get(origin)
        if entry is None:
            return None
        alternative, expires = entry
        if now >= expires:
            del self._known[origin]
            return None
        self._known[origin] = self._known.pop(origin)
        return None if self.is_broken(origin, alternative, now) else alternative

    def is_broken(self, origin: Origin, alternative: Alternative, now: float) -> bool:
        """True while the alternative is to be left alone."""
        return now < self._broken.get((origin, alternative), (0.0, 0))[0]

    def failed(self, origin: Origin, alternative: Alternative, now: float) -> None:
        """There was no answer: leave the alternative alone for a while, longer each time (section 2.4)."""
        until, times = self._broken.get((origin, alternative), (0.0, 0))
        if now < until:
            return  # of several requests that waited for the same answer
        self._broken.pop((origin, alternative), None)
        pause = min(BROKEN_S * 2.0 ** min(times, 16), BROKEN_CAP_S)
        self._broken[origin, alternative] = (now + pause, times + 1)
        _trim(self._broken, self._capacity)

    def worked(self, origin: Origin, alternative: Alternative) -> None:
        """There was an answer: earlier failures are forgotten."""
        self._broken.pop((origin, alternative), None)

    def forget(self, origin: Origin) -> None:
        """The alternative says that it does not serve the origin (421, section 6)."""
        self._known.pop(origin, None)


def _trim(table: dict[object, object] | dict, capacity: int) -> None:  # type: ignore[type-arg]
    while len(table) > capacity:
        del table[next(iter(table))]
