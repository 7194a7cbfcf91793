"""Logs as qvis reads them: qlog 0.3, from before the drafts that `qlog` follows.

The events are the same; 0.3 sorts them into categories, calls the initiator of something its owner, and has the length
of a frame's data in the frame. Client and server of one connection in one file become one sequence diagram.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

VERSION = "0.3"

_CONNECTIVITY, _TRANSPORT, _SECURITY, _RECOVERY = "connectivity", "transport", "security", "recovery"
_NAMES = {
    "connection_started": (_CONNECTIVITY, "connection_started"),
    "connection_closed": (_CONNECTIVITY, "connection_closed"),
    "connection_state_updated": (_CONNECTIVITY, "connection_state_updated"),
    "version_information": (_TRANSPORT, "version_information"),
    "alpn_information": (_TRANSPORT, "alpn_information"),
    "parameters_set": (_TRANSPORT, "parameters_set"),
    "packet_sent": (_TRANSPORT, "packet_sent"),
    "packet_received": (_TRANSPORT, "packet_received"),
    "packet_dropped": (_TRANSPORT, "packet_dropped"),
    "key_updated": (_SECURITY, "key_updated"),
    "key_discarded": (_SECURITY, "key_discarded"),
    "recovery_parameters_set": (_RECOVERY, "parameters_set"),
    "recovery_metrics_updated": (_RECOVERY, "metrics_updated"),
    "congestion_state_updated": (_RECOVERY, "congestion_state_updated"),
    "packet_lost": (_RECOVERY, "packet_lost"),
}


def records(sequence: bytes) -> list[dict[str, Any]]:
    """The records of a .sqlog file. One that was cut off at the end is left out; `ValueError` if it is no such file."""
    parts = sequence.split(b"\x1e")
    if parts[0].strip() or len(parts) < 2:
        raise ValueError("no JSON text sequence: it does not begin with a record separator")
    texts = parts[1:] if parts[-1].endswith(b"\n") else parts[1:-1]
    found = [json.loads(text) for text in texts]
    if not found or "trace" not in found[0] or not all(isinstance(record, dict) for record in found):
        raise ValueError("no qlog: its first record has no trace")
    return found


def for_qvis(files: Iterable[list[dict[str, Any]]]) -> dict[str, Any]:
    """One qlog 0.3 file with a trace for each of the files, whose records these are."""
    return {"qlog_version": VERSION, "qlog_format": "JSON", "traces": [_trace(file) for file in files]}


def _trace(file: list[dict[str, Any]]) -> dict[str, Any]:
    head, *events = file
    common = head["trace"].get("common_fields", {})
    moment = common.get("reference_time", {}).get("wall_clock_time")
    return {
        "title": head.get("title", ""),
        "vantage_point": head["trace"].get("vantage_point", {"type": "unknown"}),
        "common_fields": {
            "ODCID": common.get("group_id", ""),
            "time_format": "relative",
            "reference_time": 0.0 if moment is None else datetime.fromisoformat(moment).timestamp() * 1e3,
        },
        "events": [_event(event) for event in events],
    }


def _event(event: dict[str, Any]) -> dict[str, Any]:
    namespace, _, kind = event["name"].partition(":")
    category, name = _NAMES.get(kind, (namespace, kind)) if namespace == "quic" else (namespace, kind)
    data = dict(event["data"])
    if "initiator" in data:
        data["owner"] = data.pop("initiator")
    if kind == "connection_started":
        data = _ends(data)
    if "frames" in data:
        data["frames"] = [_frame(frame) for frame in data["frames"]]
    return {"time": event["time"], "name": f"{category}:{name}", "data": data}


def _frame(frame: dict[str, Any]) -> dict[str, Any]:
    """A frame with its data's length where 0.3 has it, and its error under its old name."""
    raw = frame.get("raw", {})
    old = {"length": raw["payload_length"]} if "payload_length" in raw else {}
    if "error" in frame:
        old["error_code"] = frame.get("error_code", frame["error"])
    return frame | old


def _ends(data: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for end, prefix in (("local", "src"), ("remote", "dst")):
        for version in ("v4", "v6"):
            if f"ip_{version}" in data[end]:
                fields["ip_version"] = version
                fields[f"{prefix}_ip"] = data[end][f"ip_{version}"]
                fields[f"{prefix}_port"] = data[end][f"port_{version}"]
        fields[f"{prefix}_cid"] = data[end]["connection_ids"][0]
    return fields
