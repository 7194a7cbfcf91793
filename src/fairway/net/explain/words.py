"""nftables rules in nft's own words, near enough for a person to find them."""

from __future__ import annotations

from typing import Any

from fairway.net.explain.ruleset import Rule
from fairway.net.explain.snapshot import Json

_LONGEST = 110


def rule_words(rule: Rule) -> str:
    """The rule: its place in its chain, and what it says."""
    text = " ".join(part for part in (_statement(each) for each in rule.statements) if part)
    if rule.comment:
        text += f' comment "{rule.comment}"'
    return f"{rule.chain} rule {rule.place}: {text if len(text) <= _LONGEST else text[: _LONGEST - 3] + '...'}"


def _statement(statement: Json) -> str:
    ((name, body),) = statement.items()
    match name, body:
        case "match", {"op": operator, "left": left, "right": right}:
            sign = "" if operator in ("==", "in") else f"{operator} "
            return f"{_value(left)} {sign}{_value(right)}"
        case "counter", {"packets": packets}:
            return f"counter packets {packets}"
        case (("counter" | "log" | "comment"), _):
            return ""
        case (("jump" | "goto"), {"target": target}):
            return f"{name} {target}"
        case "vmap", {"key": key, "data": data}:
            return f"{_value(key)} vmap {_value(data)}"
        case "xt", {"name": extension}:
            return f"[iptables {extension}]"
        case "mangle", {"key": key, "value": value}:
            return f"{_value(key)} set {_value(value)}"
    return name if not isinstance(body, dict) else f"{name} {_value(body)}".strip()


def _value(value: Any) -> str:
    match value:
        case None:
            return ""
        case {"payload": {"protocol": protocol, "field": field}}:
            return f"{protocol} {field}"
        case {"meta": {"key": str(key)}}:
            return key if key[:3] in ("iif", "oif") else f"meta {key}"
        case {"ct": {"key": key}}:
            return f"ct {key}"
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [first, last]}:
            return f"{_value(first)}-{_value(last)}"
        case {"concat": parts}:
            return " . ".join(_value(part) for part in parts)
        case {"set": elements}:
            return "{ " + ", ".join(_element(element) for element in elements) + " }"
        case {"&": [left, right]}:
            return f"{_value(left)} & {_value(right)}"
        case {"elem": {"val": inner}}:
            return _value(inner)
        case dict():
            return " ".join(f"{key} {_value(inner)}".strip() for key, inner in value.items())
        case list():
            return ",".join(_value(each) for each in value)
    return str(value)


def _element(element: Any) -> str:
    match element:
        case [key, dict() as verdict]:
            return f"{_value(key)} : {_statement(verdict)}"
    return _value(element)
