"""How often packets are acknowledged, where the sender of data says so (draft-ietf-quic-ack-frequency-14).

Fewer acknowledgements cost less on both sides; too few of them blind the sender. We ask for one for each eighth of the
congestion window: a round trip still brings enough for the window to grow and for round trips to be measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fairway.quic.ack_frames import ACK_FREQUENCY, AckFrequency
from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.transport_parameters import MAX_ACK_DELAY_LIMIT_MS

if TYPE_CHECKING:
    from fairway.quic.state import ConnectionState

WINDOW_SHARE = 8
MAX_THRESHOLD = 128
"""Packets that we let a peer leave unacknowledged, whatever the window."""
LEAST_THRESHOLD = 4
"""Below it nothing is asked for: the second packet is acknowledged anyway."""
MAX_DELAY_US = MAX_ACK_DELAY_LIMIT_MS * 1000


@dataclass(frozen=True, slots=True)
class AckRequests:
    """What the two sides have asked of each other."""

    heard: int = -1
    """The sequence number of the peer's last ACK_FREQUENCY frame."""
    sent: int = 0
    """ACK_FREQUENCY frames that we have sent."""
    threshold: int = 0
    """What was asked for in the last of them, or is to be in the next; 0 if nothing was."""


NOTHING_ASKED = AckRequests()
"""How every connection begins, and most remain."""


def consider(state: ConnectionState) -> None:
    """The window may have changed: ask for more or fewer acknowledgements, if that makes a difference."""
    packets = state.path.controller.window // state.path.packet_size
    if packets < WINDOW_SHARE * LEAST_THRESHOLD and not state.ack_requests.threshold:
        return
    wanted = min(1 << max(packets // WINDOW_SHARE, 1).bit_length() - 1, MAX_THRESHOLD)
    asked = state.ack_requests.threshold
    if wanted > asked or 4 * wanted <= asked:
        state.ack_requests = replace(state.ack_requests, threshold=wanted)
        state.control[(ACK_FREQUENCY, 0)] = None


def request(state: ConnectionState) -> AckFrequency:
    """The frame that asks for what is wanted now; each has a higher sequence number than all before it.

    The delay is never longer than what the peer takes by itself, so that timers which count on that stay true.
    """
    peer = state.peer_parameters
    at_most = peer.max_ack_delay_ms * 1000
    delay_us = min(max(int(state.path.rtt.smoothed * 1e6), peer.min_ack_delay_us or 0), at_most)
    asked = state.ack_requests
    state.ack_requests = replace(asked, sent=asked.sent + 1)
    return AckFrequency(asked.sent, max(asked.threshold, 1), delay_us, state.application.loss.packet_threshold)


def obey(state: ConnectionState, frame: AckFrequency) -> None:
    """The peer says how it wants to be acknowledged (section 4)."""
    least = state.local_parameters.min_ack_delay_us
    if least is None or not least <= frame.max_delay_us < MAX_DELAY_US:
        raise PeerError(
            ErrorCode.PROTOCOL_VIOLATION,
            f"an acknowledgement may not be delayed by {frame.max_delay_us} us",
            frame_type=ACK_FREQUENCY,
            section="draft-ietf-quic-ack-frequency section 4",
        )
    if frame.sequence <= state.ack_requests.heard:
        return
    state.ack_requests = replace(state.ack_requests, heard=frame.sequence)
    state.ack_delay_s = frame.max_delay_us / 1e6
    received = state.application.received
    received.threshold, received.reordering = frame.threshold, frame.reordering
