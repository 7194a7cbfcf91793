"""A pair of connections whose qlog is kept in memory, and the schema that it must follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
from pycddl import Schema
from quic_pair import Pair

from fairway.quic import Connection
from fairway.quic.observe import Observer, QlogObserver
from fairway.quic.observe.qvis import records

CDDL = (Path(__file__).parent / "vectors" / "qlog.cddl").read_text()
BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Record = dict[str, Any]


class MemorySink:
    """Records in memory."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.flushed = 0
        """Bytes that were there at the last flush."""

    def write(self, more: bytes) -> None:
        self.data += more

    def flush(self) -> None:
        self.flushed = len(self.data)


class Logs:
    """The qlogs of connections, by their names."""

    def __init__(self) -> None:
        self.sinks: dict[str, MemorySink] = {}

    def open(self, name: str) -> MemorySink:
        assert name not in self.sinks
        return self.sinks.setdefault(name, MemorySink())

    def observe(self) -> Sequence[Observer]:
        return (QlogObserver(self.open, clock=lambda: BEGUN),)

    def text(self, role: str) -> bytes:
        (sink,) = (sink for name, sink in self.sinks.items() if name.endswith(f"_{role}"))
        return bytes(sink.data)

    def records(self, role: str) -> list[Record]:
        return records(self.text(role))

    def events(self, role: str, name: str) -> list[Record]:
        """The data of all events of a kind."""
        return [record["data"] for record in self.records(role)[1:] if record["name"] == f"quic:{name}"]


def observed(*arguments: Any, **options: Any) -> tuple[Pair, Logs]:
    """A pair, both of whose ends are logged."""
    logs = Logs()
    return Pair(*arguments, **options, observe_client=logs.observe, observe_server=logs.observe), logs


def core(connection: Connection | None) -> Connection:
    assert connection is not None
    return connection


@cache
def _schema(rule: str) -> Schema:
    return Schema(f"Root = {rule}\n{CDDL}")


_FRAME_RULES = {name: rule for rule, name in re.findall(r'(\w+) = \{\s*frame_type: "(\w+)"', CDDL)}
_EVENT_RULES = {"key_discarded": "QUICKeyUpdated"} | {
    re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rule.replace("ALPN", "Alpn")).lower(): f"QUIC{rule}"
    for rule in re.findall(r"^QUIC(\w+) = \{", CDDL, re.MULTILINE)
}


def _shape(value: Any) -> Any:
    """What the schema can object to: keys, words and kinds of values."""
    if isinstance(value, dict):
        return tuple((key, _shape(inner)) for key, inner in value.items())
    return value if isinstance(value, str | bool) else type(value)


def check_schema(log: list[Record]) -> None:
    """Every record follows the drafts' schema; those of one shape are checked once."""
    head, *events = log
    _schema("HeadRecord").validate_cbor(cbor2.dumps(head))
    seen: set[Any] = set()

    def check(rule: str, value: Record) -> None:
        shape = (rule, _shape(value))
        if shape not in seen:
            seen.add(shape)
            _schema(rule).validate_cbor(cbor2.dumps(value))

    for event in events:
        check("EventRecord", {**event, "data": {}})
        check(_EVENT_RULES[event["name"].removeprefix("quic:")], event["data"])
        for frame in event["data"].get("frames", ()):
            check(_FRAME_RULES[frame["frame_type"]], frame)
