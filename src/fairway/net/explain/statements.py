"""The nftables statements that are neither match nor verdict: what each may do to a packet."""

from __future__ import annotations

from enum import Enum
from typing import Any

from fairway.net.explain.matching import Sets
from fairway.net.explain.packet import Passage


class Effect(Enum):
    """What a statement may do."""

    NOTHING = "nothing"
    CONDITION = "condition"  # it may end the rule, by what happened before: a limit, a quota
    ALTER = "alter"  # it changes what later rules read
    REJECT = "reject"
    TRANSLATE = "translate"
    UNKNOWN = "unknown"  # anything, a verdict too


_EFFECTS = {
    "counter": Effect.NOTHING,
    "log": Effect.NOTHING,
    "comment": Effect.NOTHING,
    "dup": Effect.NOTHING,
    "flow": Effect.CONDITION,
    "limit": Effect.CONDITION,
    "quota": Effect.CONDITION,
    "ct count": Effect.CONDITION,
    "meter": Effect.CONDITION,
    "last": Effect.NOTHING,
    "mangle": Effect.ALTER,
    "notrack": Effect.ALTER,
    "set": Effect.ALTER,
    "map": Effect.ALTER,
    "reject": Effect.REJECT,
    "snat": Effect.TRANSLATE,
    "dnat": Effect.TRANSLATE,
    "masquerade": Effect.TRANSLATE,
    "redirect": Effect.TRANSLATE,
}
_TARGETS = {  # iptables' own, which libnftables lists by their names alone
    "REJECT": Effect.REJECT,
    "SNAT": Effect.TRANSLATE,
    "DNAT": Effect.TRANSLATE,
    "MASQUERADE": Effect.TRANSLATE,
    "REDIRECT": Effect.TRANSLATE,
    "NETMAP": Effect.TRANSLATE,
    "LOG": Effect.NOTHING,
    "NFLOG": Effect.NOTHING,
    "TRACE": Effect.NOTHING,
    "TCPMSS": Effect.NOTHING,
    "DSCP": Effect.NOTHING,
    "CHECKSUM": Effect.NOTHING,
    "CLASSIFY": Effect.NOTHING,
    "MARK": Effect.ALTER,
    "CONNMARK": Effect.ALTER,
    "CT": Effect.ALTER,
}
_HARMLESS_META = ("nftrace", "priority", "secmark", "broute")
_HARMLESS_FIELDS = ("dscp", "ecn", "flowlabel", "checksum")


def effect(name: str, body: Any) -> Effect:
    """What the statement may do; one that is not known may do anything."""
    if name == "xt":
        return _extension(body)
    if name == "mangle":
        return Effect.ALTER if _mangles_little(body) else Effect.TRANSLATE
    return _EFFECTS.get(name, Effect.UNKNOWN)


def alter(name: str, body: Any, passage: Passage, sets: Sets, *, sure: bool) -> bool:
    """Note what a statement does to what is known; whether the rule surely goes on behind it."""
    if name == "notrack":
        if not passage.seen:  # a packet that is tracked already stays so
            passage.state = "untracked" if sure and passage.seen is False else None
    elif name == "set":
        sets.forget(str(body.get("set", "")))
        return False  # a full set ends the rule
    elif name == "map":
        sets.forget(str(body.get("map", "")))
        return False
    elif name == "xt":
        passage.mark = None
        if body.get("name") == "CT":
            passage.state = None
    elif name == "mangle" and body.get("key") == {"meta": {"key": "mark"}}:
        value = body.get("value")
        passage.mark = value if sure and isinstance(value, int) else None
    elif name == "mangle" and body.get("key") == {"ct": {"key": "zone"}}:
        passage.state = None
    return True


def _extension(body: Any) -> Effect:
    if not isinstance(body, dict):
        return Effect.UNKNOWN
    if body.get("type") == "match":
        return Effect.NOTHING if body.get("name") == "comment" else Effect.CONDITION
    if body.get("type") == "target":
        return _TARGETS.get(str(body.get("name")), Effect.UNKNOWN)
    return Effect.UNKNOWN


def _mangles_little(body: Any) -> bool:
    """Whether a mangle statement leaves the packet's addresses, ports and protocol as they are."""
    match body.get("key") if isinstance(body, dict) else None:
        case {"meta": {"key": str(key)}}:
            return key == "mark" or key in _HARMLESS_META
        case {"ct": _} | {"tcp option": _}:
            return True
        case {"payload": {"field": str(field)}}:
            return field in _HARMLESS_FIELDS
    return False
