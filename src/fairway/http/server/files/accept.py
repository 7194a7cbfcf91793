"""What a client accepts (RFC 9110 section 12.5): content codings in its order, JSON or HTML. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from fairway.http.server.files.limits import MAX_NEGOTIATION_BYTES

CODINGS = ("br", "gzip")  # the better first
IDENTITY = "identity"

_WEIGHT = re.compile(rb"[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z/-]+")


def preference(value: bytes | None) -> tuple[str, ...]:
    """The codings that Accept-Encoding allows, `identity` among them, the most wanted first; () if none of ours.

    Without the field, or with one of absurd length, identity alone: a client that wants a coding says so.
    """
    if value is None or len(value) > MAX_NEGOTIATION_BYTES:
        return (IDENTITY,)
    return _preference(value)


@lru_cache(maxsize=256)
def _preference(value: bytes) -> tuple[str, ...]:
    weights = _weights(value)
    if "x-gzip" in weights:
        weights.setdefault("gzip", weights["x-gzip"])
    others = weights.get("*")
    wanted = {coding: weights.get(coding, others or 0) for coding in CODINGS}
    # identity is acceptable unless it is refused by name or by `*`, and the last choice unless it is named (12.5.3)
    wanted[IDENTITY] = weights.get(IDENTITY, 0.5 if others is None else others)
    return tuple(sorted((coding for coding in wanted if wanted[coding]), key=lambda coding: -wanted[coding]))


@lru_cache(maxsize=256)
def _wants_json(value: bytes) -> bool:
    weights = _weights(value)
    others = weights.get("*/*", 0)
    html = weights.get("text/html", weights.get("text/*", others))
    return weights.get("application/json", weights.get("application/*", others)) > html


def wants_json(value: bytes | None) -> bool:
    """Whether Accept rates application/json above text/html."""
    return value is not None and len(value) <= MAX_NEGOTIATION_BYTES and _wants_json(value)


def _weights(value: bytes) -> dict[str, float]:
    """Each well-formed item with its weight, 1 to 1000, 0 if refused; items that are not well-formed do not count."""
    weights: dict[str, float] = {}
    for item in value.split(b","):
        item = item.strip(b" \t")
        token = _TOKEN.match(item)
        if token is None:
            continue
        rest = item[token.end() :]
        weight = _WEIGHT.fullmatch(rest)
        if weight is None and rest:
            continue
        weights[token[0].decode().lower()] = 1000 * (float(weight[1]) if weight is not None else 1)
    return weights
