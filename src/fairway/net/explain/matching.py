"""Whether an nftables match holds: True, False, or None where it cannot be told. Never a guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from fairway.net.explain.fields import (
    ABSENT,
    ALL_TCP_FLAGS,
    PLAIN_TCP_FLAGS,
    UNKNOWN,
    Value,
    flag_bits,
    kind_of,
    read,
    reads_tcp_flags,
    tcp_flags,
)
from fairway.net.explain.packet import Passage
from fairway.net.explain.snapshot import Json
from fairway.net.model.facts import IPAddress

Truth = bool | None

_PROTOCOL_NUMBERS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "comp": 108,
    "sctp": 132,
    "udplite": 136,
}
_STATES = ("new", "established", "related", "invalid", "untracked")
_NAMED = {  # values that nft writes as words, and that the packets explained here never have otherwise
    "ipv4", "ipv6", "ip", "ip6",
    "echo-request", "echo-reply", "destination-unreachable", "time-exceeded", "parameter-problem", "packet-too-big",
    "source-quench", "redirect", "router-advertisement", "router-solicitation", "nd-neighbor-solicit",
    "nd-neighbor-advert", "nd-router-solicit", "nd-router-advert", "nd-redirect", "mld-listener-query",
    "mld-listener-report", "mld-listener-done", "mld-listener-reduction", "mld2-listener-report", "timestamp-request",
    "timestamp-reply", "info-request", "info-reply", "address-mask-request", "address-mask-reply",
    "router-renumbering", "ind-neighbor-solicit", "ind-neighbor-advert",
}  # fmt: skip
_HARMLESS = {"val", "timeout", "expires", "comment", "counter"}
_EVERYTHING = "*"
_WAY_BACK = {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}


class Sets:
    """A table's named sets and maps. One that a rule has just changed is not known any more."""

    def __init__(self, listed: Iterable[Json]) -> None:
        self._elements: dict[str, list[Any] | None] = {}
        for item in listed:
            statements = item.get("stmt", [])
            readable = all(isinstance(each, dict) and set(each) == {"counter"} for each in statements)
            self._elements[item["name"]] = item.get("elem", []) if readable else None

    def elements(self, name: str) -> list[Any] | None:
        """What the set holds; None if that is not known."""
        return self._elements.get(name.removeprefix("@"))

    def forget(self, name: str) -> None:
        """Take the set's content as unknown."""
        self._elements[name.removeprefix("@")] = None


def holds(match: Json, passage: Passage, sets: Sets) -> Truth:
    """Whether a match statement's body ({"op", "left", "right"}) holds for the packet."""
    operator, left, right = match.get("op"), match.get("left"), match.get("right")
    if left == _WAY_BACK:
        return _leads_back(operator, right, passage)
    if reads_tcp_flags(left):
        return _flags_hold(operator, left, right, passage)
    if isinstance(left, dict) and "&" in left:
        return _masked_holds(operator, left["&"], right, passage)
    value = read(left, passage)
    if value is ABSENT:
        return False
    kinds = _kinds(left)
    if operator in ("==", "in"):
        return _compare(value, right, kinds, sets, bits=operator == "in")
    if operator == "!=":
        equal = _compare(value, right, kinds, sets)
        return None if equal is None else not equal
    if operator in _ORDER and isinstance(value, int) and isinstance(right, int):
        return bool(_ORDER[str(operator)](value, right))
    return None


def choose(body: Json, passage: Passage, sets: Sets) -> list[tuple[Truth, Json]] | None:
    """The verdicts that a verdict map may give, each sure (True) or possible (None). None: it cannot be read."""
    data = body.get("data")
    elements = data.get("set") if isinstance(data, dict) else sets.elements(str(data)) if data else None
    value = read(body.get("key"), passage)
    if value is ABSENT:
        return []
    if elements is None:
        return None
    kinds = _kinds(body.get("key"))
    possible: list[tuple[Truth, Json]] = []
    default: Json | None = None
    for key, verdict in elements:
        if key == _EVERYTHING and kinds != ["interface"]:
            default = verdict
            continue
        truth = _element(value, key, kinds)
        if truth:
            return [(True, verdict)]
        if truth is None:
            possible.append((None, verdict))
    if default is not None:
        possible.append((None if possible else True, default))
    return possible


def _kinds(left: Any) -> list[str]:
    parts = left["concat"] if isinstance(left, dict) and "concat" in left else [left]
    return [kind_of(part) for part in parts]


def _compare(value: Value, right: Any, kinds: list[str], sets: Sets, *, bits: bool = False) -> Truth:
    if isinstance(right, str) and right.startswith("@"):
        return _member(value, sets.elements(right), kinds)
    if isinstance(right, dict) and "set" in right:
        return _member(value, right["set"], kinds)
    if isinstance(right, list):  # flags joined by "or": any of them
        return _any(_element(value, each, kinds) for each in right) if bits and kinds == ["state"] else None
    if bits and kinds != ["state"]:
        return None
    return _element(value, right, kinds)


def _member(value: Value, elements: list[Any] | None, kinds: list[str]) -> Truth:
    if elements is None:
        return None
    return _any(_element(value, element, kinds) for element in elements)


def _element(value: Value, element: Any, kinds: list[str]) -> Truth:
    if isinstance(element, dict) and "elem" in element:
        inner = element["elem"]
        truth = _element(value, inner.get("val"), kinds)
        return truth if truth is False or set(inner) <= _HARMLESS else None
    if isinstance(element, dict) and "concat" in element:
        parts = element["concat"]
        if not isinstance(value, list) or len(parts) != len(value):
            return None
        return _all(_single(each, part, kind) for each, part, kind in zip(value, parts, kinds, strict=True))
    if isinstance(value, list):
        return True if element == _EVERYTHING else None
    return _single(value, element, kinds[0])


def _single(value: Value, element: Any, kind: str) -> Truth:
    if value is UNKNOWN:
        return None
    if kind == "interface":
        return _interface(value, element)
    if element == _EVERYTHING:
        return True
    if kind == "protocol":
        return _number(value, _protocol(element)) if isinstance(element, str) else _number(value, element)
    if kind == "state":
        return value == element if element in _STATES else None
    if isinstance(value, int):
        return _number(value, element)
    if isinstance(value, str):
        return value == element if isinstance(element, str) and element in _NAMED else None
    return _address(value, element)


def _interface(name: str, element: Any) -> Truth:
    if not isinstance(element, str) or "\\" in element:
        return None
    if element.endswith("*"):
        return name.startswith(element[:-1])
    return name == element


def _protocol(name: str) -> int | None:
    return _PROTOCOL_NUMBERS.get(name)


def _number(value: int, element: Any) -> Truth:
    if isinstance(element, bool) or element is None:
        return None
    if isinstance(element, int):
        return value == element
    match element:
        case {"range": [int(first), int(last)]}:
            return first <= value <= last
    return None


def _address(value: IPAddress, element: Any) -> Truth:
    try:
        match element:
            case str():
                return value == ip_address(element)
            case {"prefix": {"addr": str(address), "len": int(length)}}:
                return value in ip_network(f"{address}/{length}", strict=False)
            case {"range": [str(first), str(last)]}:
                low, high = ip_address(first), ip_address(last)
                return low.version == value.version and int(low) <= int(value) <= int(high)
    except ValueError:
        return None
    return None


def _flags_hold(operator: Any, left: Any, right: Any, passage: Passage) -> Truth:
    flags, mask = tcp_flags(left, passage)
    if flags is ABSENT:
        return False
    wanted = flag_bits(right)
    if flags is UNKNOWN or wanted is None or wanted & ~PLAIN_TCP_FLAGS:
        return None
    if operator == "in":
        return bool(flags & wanted)
    if mask == ALL_TCP_FLAGS or operator not in ("==", "!="):
        return None
    return (flags == wanted) is (operator == "==")


def _leads_back(operator: Any, right: Any, passage: Passage) -> Truth:
    """Whether a route leads back to the packet's source by the interface that it came by."""
    if passage.way_back is None or not isinstance(right, bool) or operator not in ("==", "!="):
        return None
    return ((passage.way_back == passage.entering) is right) is (operator == "==")


def _masked_holds(operator: Any, operands: Any, right: Any, passage: Passage) -> Truth:
    match operands:
        case [inner, int(mask)] if isinstance(right, int) and operator in ("==", "!="):
            value = read(inner, passage)
            if value is ABSENT:
                return False
            return (value & mask == right) is (operator == "==") if isinstance(value, int) else None
        case [{"ct": {"key": "state"}} as inner, str(state)] if operator in ("==", "!=") and state in _STATES:
            value = read(inner, passage)
            if not isinstance(value, str) or right not in (0, state):
                return None
            return ((value == state) is (right == state)) is (operator == "==")
        case [inner, _]:
            return False if read(inner, passage) is ABSENT else None
    return None


def _any(truths: Iterable[Truth]) -> Truth:
    found: list[Truth] = list(truths)
    return True if True in found else None if None in found else False


def _all(truths: Iterable[Truth]) -> Truth:
    found: list[Truth] = list(truths)
    return False if False in found else None if None in found else True


_ORDER: Mapping[str, Any] = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
