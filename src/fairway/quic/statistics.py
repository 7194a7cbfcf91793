"""Figures about one connection: what is counted, and what each figure means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairway.quic.datagrams import NO_DATAGRAMS

if TYPE_CHECKING:
    from fairway.quic.state import ConnectionState

KEYS = {
    "quic_version": "the version that is spoken (RFC 9368); before the handshake is complete, the one that is tried",
    "streams": "streams that are not finished",
    "streams_opened_locally": "streams that we opened, in all",
    "streams_opened_by_peer": "streams that the peer opened, in all",
    "bytes_sent": "bytes of UDP payload sent",
    "early_bytes_sent": "of the bytes sent, those in 0-RTT packets",
    "bytes_received": "bytes of UDP payload received",
    "bytes_in_flight": "bytes sent that are neither acknowledged nor lost",
    "bytes_lost": "bytes in packets that were declared lost",
    "stream_bytes_retransmitted": "bytes of streams that were sent again, after a loss or in a probe",
    "stream_bytes_kept": "bytes of streams that were sent and are kept until they and all before are acknowledged",
    "packet_size": "bytes of full datagrams, as path MTU discovery stands",
    "ecn_capable": "1 if the path carries ECN marks and the peer counts them",
    "congestion_window": "bytes that may be in flight",
    "smoothed_rtt_s": "smoothed round-trip time, seconds; before the first sample what the configuration assumes",
    "minimum_rtt_s": "least round-trip time, seconds; 0 before the first sample",
    "packets_sent": "packets sent",
    "packets_received": "packets received that opened and were no duplicates",
    "packets_lost": "packets declared lost",
    "packets_spuriously_lost": "of the packets declared lost, those that were acknowledged after all",
    "packets_dropped": "packets that arrived and were not taken in: duplicates, and those that did not open",
    "probe_timeouts": "probe timeouts (PTO) that expired",
    "key_updates": "changes of the 1-RTT keys",
    "runs_remembered": "records of packets that are neither acknowledged nor lost",
    "datagrams_sent": "DATAGRAM frames sent (RFC 9221)",
    "datagrams_lost": "DATAGRAM frames in packets that were declared lost, or that no packet could carry any more",
    "datagrams_received": "DATAGRAM frames that arrived",
    "datagrams_dropped": "DATAGRAM frames that arrived and were dropped, since nobody had fetched them",
}
"""What the figures of `Connection.statistics()` mean."""


class Counters:
    """What is counted over a connection's life and is not known from its parts."""

    __slots__ = (
        "bytes_lost", "early_bytes_sent", "key_updates", "numbers_skipped", "packets_dropped", "packets_lost",
        "packets_received", "packets_spuriously_lost", "probe_timeouts", "stream_bytes_retransmitted",
    )  # fmt: skip

    def __init__(self) -> None:
        self.bytes_lost = 0
        self.key_updates = 0
        """Known from the keys while there are any."""
        self.early_bytes_sent = 0
        self.numbers_skipped = 0
        """Packet numbers that no packet had (RFC 9000 section 21.4)."""
        self.packets_dropped = 0
        self.packets_lost = 0
        self.packets_received = 0
        self.packets_spuriously_lost = 0
        self.probe_timeouts = 0
        self.stream_bytes_retransmitted = 0


def statistics(state: ConnectionState) -> dict[str, float | int]:
    """The connection's figures now, by the names of `KEYS`."""
    counters, path, spaces = state.counters, state.path, state.spaces
    local, by_peer = state.streams.opened_ever
    keys = state.application.keys
    return {
        "quic_version": state.version,
        "streams": len(state.streams),
        "streams_opened_locally": local,
        "streams_opened_by_peer": by_peer,
        "bytes_sent": path.bytes_sent,
        "early_bytes_sent": counters.early_bytes_sent,
        "bytes_received": path.bytes_received,
        "bytes_in_flight": state.bytes_in_flight,
        "bytes_lost": counters.bytes_lost,
        "stream_bytes_retransmitted": counters.stream_bytes_retransmitted,
        "stream_bytes_kept": state.outgoing.bytes_kept,
        "packet_size": path.packet_size,
        "ecn_capable": int(state.ecn.capable and not state.ecn.failed),
        "congestion_window": path.controller.window,
        "smoothed_rtt_s": path.rtt.smoothed,
        "minimum_rtt_s": path.rtt.minimum,
        "packets_sent": sum([space.next_number for space in spaces]) - counters.numbers_skipped,
        "packets_received": counters.packets_received,
        "packets_lost": counters.packets_lost,
        "packets_spuriously_lost": counters.packets_spuriously_lost,
        "packets_dropped": counters.packets_dropped,
        "probe_timeouts": counters.probe_timeouts,
        "key_updates": counters.key_updates if keys is None else keys.updates,
        "runs_remembered": sum([len(space.sent) for space in spaces]),
        **(state.datagrams or NO_DATAGRAMS).statistics(),
    }
