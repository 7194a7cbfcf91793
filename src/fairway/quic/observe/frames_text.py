"""The frames of a packet as qlog writes them (draft-ietf-quic-qlog-quic-events-13, section 8.13): payload in, JSON out.

Data of streams, datagrams and the handshake is never copied into a log: only where it lies and how long it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fairway.quic import ack_frames
from fairway.quic import frames as fr
from fairway.quic.errors import ErrorCode, PeerError
from fairway.wire import Reader, WireError

_STREAM_KINDS = range(fr.STREAM, fr.STREAM + 8)


def frames_text(payload: bytes, ack_delay_exponent: int) -> str:
    """The JSON array of a payload's frames; where they cannot be parsed, an "unknown" one is the last."""
    reader = Reader(payload)
    out = []
    while reader.remaining:
        start = reader.offset
        kind = payload[start]
        try:
            if kind in _STREAM_KINDS:
                out.append(_stream(reader))
            else:
                out.append(_dumps(_described(reader, ack_delay_exponent)))
        except (PeerError, WireError):
            length = len(payload) - start
            out.append(f'{{"frame_type":"unknown","frame_type_bytes":{kind},"raw":{{"length":{length}}}}}')
            break
    return f"[{','.join(out)}]"


def error_fields(code: int, application: bool) -> dict[str, Any]:
    """An error as qlog names it: `error`, and `error_code` where it has no name there."""
    if not application:
        if 0x100 <= code <= 0x1FF:
            return {"error": f"crypto_error_{code:#x}"}
        if code in ErrorCode.__members__.values():
            return {"error": ErrorCode(code).name.lower()}
    return {"error": "unknown", "error_code": code}


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _stream(reader: Reader) -> str:
    """A STREAM frame; the data is passed over, not copied."""
    start = reader.offset
    kind = reader.u8()
    stream_id = reader.varint()
    offset = reader.varint() if kind & fr.STREAM_OFF else 0
    length = reader.varint() if kind & fr.STREAM_LEN else reader.remaining
    if length > reader.remaining:
        raise WireError("the data of a STREAM frame runs past the end")
    reader.offset += length
    fin = ',"fin":true' if kind & fr.STREAM_FIN else ""
    whole = reader.offset - start
    return (
        f'{{"frame_type":"stream","stream_id":{stream_id},"offset":{offset}{fin},'
        f'"raw":{{"length":{whole},"payload_length":{length}}}}}'
    )


def _described(reader: Reader, ack_delay_exponent: int) -> dict[str, Any]:
    start = reader.offset
    _, frame = fr.decode_frame(reader)
    if isinstance(frame, ack_frames.Ack):
        return _ack(frame, ack_delay_exponent)
    described = _DESCRIBE[type(frame)](frame)
    measure = _PAYLOAD_LENGTH.get(type(frame))
    if measure is not None:
        described["raw"] = {"length": reader.offset - start, "payload_length": measure(frame)}
    return described


def _ack(frame: ack_frames.Ack, ack_delay_exponent: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "frame_type": "ack",
        "ack_delay": (frame.delay << ack_delay_exponent) / 1000,
        "acked_ranges": [[first] if first == last else [first, last] for first, last in reversed(frame.ranges)],
    }
    if frame.ecn is not None:
        described |= {"ect0": frame.ecn.ect0, "ect1": frame.ecn.ect1, "ce": frame.ecn.ce}
    return described


def _close(frame: fr.ConnectionClose) -> dict[str, Any]:
    described = {
        "frame_type": "connection_close",
        "error_space": "application" if frame.application else "transport",
        **error_fields(frame.code, frame.application),
        "reason": frame.reason.decode("utf-8", "replace"),
    }
    if not frame.application:
        described["trigger_frame_type"] = frame.frame_type
    return described


def _stream_type(unidirectional: bool) -> str:
    return "unidirectional" if unidirectional else "bidirectional"


def _plain(name: str, **fields: str) -> Callable[[Any], dict[str, Any]]:
    """What describes a frame whose fields have other names in qlog: qlog's by ours."""

    def describe(frame: Any) -> dict[str, Any]:
        return {"frame_type": name} | {theirs: _value(getattr(frame, ours)) for ours, theirs in fields.items()}

    return describe


def _value(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


_PAYLOAD_LENGTH: dict[type, Callable[[Any], int]] = {
    fr.Padding: lambda frame: frame.length,
    fr.Crypto: lambda frame: len(frame.data),
    fr.NewToken: lambda frame: len(frame.token),
    fr.Datagram: lambda frame: len(frame.data),
}

_DESCRIBE: dict[type, Callable[[Any], dict[str, Any]]] = {
    fr.Padding: _plain("padding"),
    fr.Ping: _plain("ping"),
    fr.ResetStream: lambda frame: {
        "frame_type": "reset_stream",
        "stream_id": frame.stream_id,
        **error_fields(frame.code, True),
        "final_size": frame.final_size,
    },
    fr.ResetStreamAt: lambda frame: {
        "frame_type": "reset_stream_at",
        "stream_id": frame.stream_id,
        **error_fields(frame.code, True),
        "final_size": frame.final_size,
        "reliable_size": frame.reliable_size,
    },
    fr.StopSending: lambda frame: {
        "frame_type": "stop_sending",
        "stream_id": frame.stream_id,
        **error_fields(frame.code, True),
    },
    fr.Crypto: _plain("crypto", offset="offset"),
    fr.NewToken: lambda frame: {"frame_type": "new_token", "token": {"type": "resumption"}},
    fr.MaxData: _plain("max_data", limit="maximum"),
    fr.MaxStreamData: _plain("max_stream_data", stream_id="stream_id", limit="maximum"),
    fr.MaxStreams: lambda frame: {
        "frame_type": "max_streams",
        "stream_type": _stream_type(frame.unidirectional),
        "maximum": frame.limit,
    },
    fr.DataBlocked: _plain("data_blocked", limit="limit"),
    fr.StreamDataBlocked: _plain("stream_data_blocked", stream_id="stream_id", limit="limit"),
    fr.StreamsBlocked: lambda frame: {
        "frame_type": "streams_blocked",
        "stream_type": _stream_type(frame.unidirectional),
        "limit": frame.limit,
    },
    fr.NewConnectionId: _plain(
        "new_connection_id",
        sequence="sequence_number",
        retire_prior_to="retire_prior_to",
        connection_id="connection_id",
    ),
    fr.RetireConnectionId: _plain("retire_connection_id", sequence="sequence_number"),
    fr.PathChallenge: _plain("path_challenge", data="data"),
    fr.PathResponse: _plain("path_response", data="data"),
    fr.ConnectionClose: _close,
    fr.HandshakeDone: _plain("handshake_done"),
    fr.Datagram: _plain("datagram"),
    ack_frames.AckFrequency: lambda frame: {"frame_type": "unknown", "frame_type_bytes": ack_frames.ACK_FREQUENCY},
    ack_frames.ImmediateAck: lambda frame: {"frame_type": "unknown", "frame_type_bytes": ack_frames.IMMEDIATE_ACK},
}
"""Tokens of NEW_TOKEN and stateless reset tokens are secrets of the peer's: they stay out of logs."""
