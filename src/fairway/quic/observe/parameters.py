"""Transport parameters and the two ends of a connection as qlog names them."""

from __future__ import annotations

from typing import Any

from fairway.quic.paths.path import Address
from fairway.quic.state import ConnectionState
from fairway.quic.transport_parameters import TransportParameters

_RENAMED = {"max_idle_timeout_ms": "max_idle_timeout", "max_ack_delay_ms": "max_ack_delay"}
_PLAIN = (
    "original_destination_connection_id",
    "initial_source_connection_id",
    "retry_source_connection_id",
    "disable_active_migration",
    "max_idle_timeout_ms",
    "max_udp_payload_size",
    "ack_delay_exponent",
    "max_ack_delay_ms",
    "active_connection_id_limit",
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "max_datagram_frame_size",
)
"""All but the stateless reset token, which is a secret, and the preferred address, which carries one."""


def parameter_fields(parameters: TransportParameters) -> dict[str, Any]:
    """The fields of a parameters_set event; those without a value are left out."""
    fields: dict[str, Any] = {}
    for name in _PLAIN:
        value = getattr(parameters, name)
        if value is not None:
            fields[_RENAMED.get(name, name)] = value.hex() if isinstance(value, bytes) else value
    return fields


def version_fields(state: ConnectionState) -> dict[str, Any]:
    """The data of a version_information event: what both ends offered, and what was settled."""
    ours: tuple[int, ...] | None = state.configuration.spoken_versions
    information = state.peer_parameters.version_information
    theirs = None if information is None else information.available
    client, server = (ours, theirs) if state.is_client else (theirs, ours)
    fields: dict[str, Any] = {}
    for name, versions in (("client_versions", client), ("server_versions", server)):
        if versions:
            fields[name] = [f"{version:08x}" for version in versions]
    return {**fields, "chosen_version": f"{state.version:08x}"}


def connection_ends(state: ConnectionState, original_destination: bytes) -> dict[str, Any]:
    """The data of a connection_started event."""
    remote_id = original_destination if state.is_client else state.remote_ids.current
    return {
        "local": {"connection_ids": [state.handshake_id.hex()]},
        "remote": {**_address(state.path.address), "connection_ids": [remote_id.hex()]},
    }


def _address(address: Address | None) -> dict[str, Any]:
    """IP address and port of a socket's address, if it is one."""
    if address is None or len(address) < 2 or not isinstance(address[0], str) or not isinstance(address[1], int):
        return {}
    version = "v6" if ":" in address[0] else "v4"
    return {f"ip_{version}": address[0], f"port_{version}": address[1]}
