"""qlog of one connection: draft-ietf-quic-qlog-main-schema-13 and draft-ietf-quic-qlog-quic-events-13.

Records go to `write` one after the other as JSON Text Sequences (RFC 7464): a .sqlog file, whole after each record.
What changes without a packet of its own (window, round trip, phase, keys) is looked at whenever a call into the
connection is over, and written where it differs from what was written last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from fairway.quic.congestion import named_phase
from fairway.quic.errors import ClosedBy, Closing
from fairway.quic.events import HandshakeCompleted
from fairway.quic.observe.frames_text import error_fields, frames_text
from fairway.quic.observe.observer import DropReason, ObservedPacket, Observer
from fairway.quic.observe.parameters import connection_ends, parameter_fields, version_fields
from fairway.quic.recovery.loss import PACKET_THRESHOLD, PERSISTENT_CONGESTION_THRESHOLD, TIME_THRESHOLD
from fairway.quic.recovery.rtt import GRANULARITY_S
from fairway.quic.recovery.sent import Run
from fairway.quic.spaces import SpaceKind
from fairway.quic.state import ConnectionState, Phase
from fairway.quic.transport_parameters import TransportParameters
from fairway.tls import CipherSuite

FILE_SCHEMA = "urn:ietf:params:qlog:file:sequential"
SERIALIZATION = "application/qlog+json-seq"
EVENT_SCHEMA = "urn:ietf:params:qlog:events:quic-13"

_PACKET_TYPES = {SpaceKind.INITIAL: "initial", SpaceKind.HANDSHAKE: "handshake", SpaceKind.APPLICATION: "1RTT"}
_STATES = {
    Phase.HANDSHAKE: "attempted",
    Phase.COMPLETE: "handshake_complete",
    Phase.CONFIRMED: "handshake_confirmed",
    Phase.CLOSING: "closing",
    Phase.DRAINING: "draining",
    Phase.CLOSED: "closed",
}
_TRIGGERS = {
    ClosedBy.IDLE: "idle_timeout",
    ClosedBy.HANDSHAKE_TIMEOUT: "idle_timeout",
    ClosedBy.RESET: "stateless_reset",
    ClosedBy.VERSION: "version_mismatch",
    ClosedBy.TRANSPORT: "aborted",
}
_UNKNOWN = TransportParameters()


class Sink(Protocol):
    """Where records go."""

    def write(self, records: bytes) -> object:
        """Take whole records; they may wait."""

    def flush(self) -> object:
        """Nothing may wait any longer: the connection has ended."""


class QlogObserver(Observer):
    """Writes the qlog of one connection, a record at a time.

    `open_sink` gives where to, once the connection has a name: its client's first Destination Connection ID and
    its role, as the draft names files. `clock` says when it began, for people.
    """

    def __init__(self, open_sink: Callable[[str], Sink], *, clock: Callable[[], datetime], title: str = "") -> None:
        self._open_sink = open_sink
        self._sink: Sink
        self._clock = clock
        self._title = title
        self._state: ConnectionState
        self._epoch = 0.0
        self._seen: _Seen

    # What is told

    def started(self, state: ConnectionState, original_destination: bytes, now: float) -> None:
        """Write the head of the file, and what holds from the beginning."""
        self._state = state
        self._epoch = now
        self._seen = _Seen(state)
        role = "client" if state.is_client else "server"
        self._sink = self._open_sink(f"{original_destination.hex()}_{role}")
        moment = self._clock().isoformat(timespec="microseconds")
        head = {
            "file_schema": FILE_SCHEMA,
            "serialization_format": SERIALIZATION,
            "title": self._title or f"fairway {role}",
            "trace": {
                "common_fields": {
                    "group_id": original_destination.hex(),
                    "time_format": "relative_to_epoch",
                    "reference_time": {"clock_type": "monotonic", "epoch": "unknown", "wall_clock_time": moment},
                },
                "vantage_point": {"name": "fairway", "type": role},
                "event_schemas": [EVENT_SCHEMA],
            },
        }
        self._record(_dumps(head))
        self._event(now, "connection_started", connection_ends(state, original_destination))
        local = parameter_fields(state.local_parameters)
        self._event(now, "parameters_set", {"initiator": "local", **local})
        self._event(now, "recovery_parameters_set", _recovery_parameters(state))
        for end in ("client", "server"):
            self._event(now, "key_updated", {"key_type": f"{end}_initial_secret", "trigger": "tls"})
        self._event(now, "connection_state_updated", {"new": _STATES[state.phase]})

    def sent(self, space: SpaceKind, packets: Sequence[ObservedPacket], now: float) -> None:
        """Write a packet_sent for each."""
        keys = self._state.application.keys if space is SpaceKind.APPLICATION else None
        phase = "" if keys is None else f',"key_phase":{keys.updates}'
        self._packets("packet_sent", space, packets, phase, self._state.local_parameters.ack_delay_exponent, now)

    def received(self, space: SpaceKind, packets: Sequence[ObservedPacket], now: float) -> None:
        """Write a packet_received for each."""
        self._packets("packet_received", space, packets, "", self._state.peer_parameters.ack_delay_exponent, now)

    def dropped(self, reason: DropReason, size: int, now: float) -> None:
        """Write packet_dropped."""
        self._event(now, "packet_dropped", {"raw": {"length": size}, "trigger": reason.value})

    def acknowledged(self, space: SpaceKind, runs: Sequence[Run], now: float) -> None:
        """Recovery ends when something is acknowledged that was sent after it began (RFC 9002 section 7.3.2)."""
        seen = self._seen
        if seen.recovery_since is not None and any(run.time > seen.recovery_since for run in runs):
            seen.recovery_since = None

    def lost(self, space: SpaceKind, runs: Sequence[Run], by_number: int, now: float) -> None:
        """Write a packet_lost for each."""
        if any(run.time > (self._seen.recovery_since or -1.0) for run in runs if run.in_flight):
            self._seen.recovery_since = now
        kind = _PACKET_TYPES[space]
        for run in runs:
            for number in range(run.first, run.last + 1):
                trigger = "reordering_threshold" if number <= by_number else "time_threshold"
                header = {"packet_type": kind, "packet_number": number}
                self._event(now, "packet_lost", {"header": header, "trigger": trigger})

    def handshake_completed(self, event: HandshakeCompleted, now: float) -> None:
        """Write what was agreed."""
        self._event(now, "version_information", version_fields(self._state))
        if event.alpn is not None:
            self._event(now, "alpn_information", {"chosen_alpn": {"string_value": event.alpn}})
        cipher = {"tls_cipher": CipherSuite(event.cipher_suite).name, "resumption_allowed": event.resumed}
        self._event(now, "parameters_set", cipher)

    def closed(self, closing: Closing, now: float) -> None:
        """Write connection_closed."""
        data: dict[str, Any] = {}
        if closing.by in (ClosedBy.LOCAL, ClosedBy.PEER):
            data["initiator"] = "local" if closing.by is ClosedBy.LOCAL else "remote"
            fields = error_fields(closing.code, closing.application)
            data["application_error" if closing.application else "connection_error"] = fields.pop("error")
            data |= fields
            data["trigger"] = "application" if closing.application or not closing.code else "error"
        else:
            data["trigger"] = _TRIGGERS[closing.by]
        if closing.reason:
            data["reason"] = closing.reason
        self._event(now, "connection_closed", data)
        self.settled(now)

    def settled(self, now: float) -> None:
        """Write what has changed."""
        for name, data in self._seen.changes(self._state):
            self._event(now, name, data)
        if not self._state.is_open:
            self._sink.flush()

    # Records

    def _packets(
        self, name: str, space: SpaceKind, packets: Sequence[ObservedPacket], more: str, exponent: int, now: float
    ) -> None:
        time = f"{(now - self._epoch) * 1e3:.3f}"
        head = f'\x1e{{"time":{time},"name":"quic:{name}","data":{{"header":{{"packet_type":"{_PACKET_TYPES[space]}"'
        records = [
            f'{head},"packet_number":{packet.number}{more}}},"frames":{frames_text(packet.payload, exponent)},'
            f'"raw":{{"length":{packet.size},"payload_length":{len(packet.payload)}}}}}}}\n'
            for packet in packets
        ]
        self._sink.write("".join(records).encode())

    def _event(self, now: float, name: str, data: dict[str, Any]) -> None:
        self._record(f'{{"time":{(now - self._epoch) * 1e3:.3f},"name":"quic:{name}","data":{_dumps(data)}}}')

    def _record(self, text: str) -> None:
        self._sink.write(b"\x1e" + text.encode() + b"\n")


class _Seen:
    """What of the connection's state was written last."""

    def __init__(self, state: ConnectionState) -> None:
        self._metrics: dict[str, float | int] = {}
        self._phase = state.phase
        self._congestion: str | None = None
        self._token = state.token
        self._peer_known = False
        self._key_phase = 0
        self._keys = {SpaceKind.HANDSHAKE: False, SpaceKind.APPLICATION: False}
        self._discarded = {SpaceKind.INITIAL: False, SpaceKind.HANDSHAKE: False}
        self.recovery_since: float | None = None
        """When the newest loss episode began; None outside of one."""

    def changes(self, state: ConnectionState) -> list[tuple[str, dict[str, Any]]]:
        """Events for what is different now."""
        out: list[tuple[str, dict[str, Any]]] = []
        if state.token != self._token:
            self._token = state.token
            token = {"type": "retry", "raw": {"length": len(state.token)}}
            out.append(("packet_received", {"header": {"packet_type": "retry", "token": token}}))
        if state.peer_parameters != _UNKNOWN and not self._peer_known:
            self._peer_known = True
            out.append(("parameters_set", {"initiator": "remote", **parameter_fields(state.peer_parameters)}))
        out += self._key_changes(state)
        if state.phase is not self._phase:
            old, self._phase = self._phase, state.phase
            out.append(("connection_state_updated", {"old": _STATES[old], "new": _STATES[state.phase]}))
        out += self._recovery_changes(state)
        return out

    def _key_changes(self, state: ConnectionState) -> list[tuple[str, dict[str, Any]]]:
        out: list[tuple[str, dict[str, Any]]] = []
        keys = state.application.keys
        handshake = state.handshake.can_send or state.handshake.discarded
        there = {SpaceKind.HANDSHAKE: handshake, SpaceKind.APPLICATION: keys is not None}
        for kind, name in ((SpaceKind.HANDSHAKE, "handshake"), (SpaceKind.APPLICATION, "1rtt")):
            if there[kind] and not self._keys[kind]:
                self._keys[kind] = True
                out += _both("key_updated", name, {"trigger": "tls"})
        for kind, name in ((SpaceKind.INITIAL, "initial"), (SpaceKind.HANDSHAKE, "handshake")):
            if state.spaces[kind].discarded and not self._discarded[kind]:
                self._discarded[kind] = True
                out += _both("key_discarded", name, {"trigger": "tls"})
        if keys is not None and keys.updates != self._key_phase:
            self._key_phase = keys.updates
            # Whoever begins an update does not know which packet of the peer's will follow it.
            trigger = "local_update" if keys.first_received is None else "remote_update"
            out += _both("key_updated", "1rtt", {"key_phase": keys.updates, "trigger": trigger})
        return out

    def _recovery_changes(self, state: ConnectionState) -> list[tuple[str, dict[str, Any]]]:
        out: list[tuple[str, dict[str, Any]]] = []
        rtt = state.path.rtt
        metrics: dict[str, float | int] = {
            "congestion_window": state.path.controller.window,
            "bytes_in_flight": state.bytes_in_flight,
            "pto_count": state.pto_count,
        }
        if rtt.first_sample_at is not None:
            metrics["min_rtt"] = round(rtt.minimum * 1e3, 3)
            metrics["smoothed_rtt"] = round(rtt.smoothed * 1e3, 3)
            metrics["latest_rtt"] = round(rtt.latest * 1e3, 3)
            metrics["rtt_variance"] = round(rtt.variation * 1e3, 3)
        changed = {name: value for name, value in metrics.items() if self._metrics.get(name) != value}
        if changed:
            self._metrics = metrics
            out.append(("recovery_metrics_updated", changed))
        congestion = "recovery" if self.recovery_since is not None else named_phase(state.path.controller)
        if congestion is not None and congestion != self._congestion:
            old, self._congestion = self._congestion, congestion
            out.append(("congestion_state_updated", ({} if old is None else {"old": old}) | {"new": congestion}))
        return out


def _both(name: str, keys: str, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The same event for the keys of both directions; the keys themselves belong into a key log."""
    return [(name, {"key_type": f"{end}_{keys}_secret", **data}) for end in ("client", "server")]


def _recovery_parameters(state: ConnectionState) -> dict[str, Any]:
    return {
        "reordering_threshold": PACKET_THRESHOLD,
        "time_threshold": TIME_THRESHOLD,
        "timer_granularity": int(GRANULARITY_S * 1e3),
        "initial_rtt": state.configuration.initial_rtt_s * 1e3,
        "max_datagram_size": state.path.packet_size,
        "initial_congestion_window": state.path.controller.window,
        "persistent_congestion_threshold": PERSISTENT_CONGESTION_THRESHOLD,
    }


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
