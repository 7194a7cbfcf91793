"""What a congestion controller is, and how an application brings its own.

A controller owns one path's window. It is told what was sent, acknowledged and lost, in batches; it answers with
`window`, the bytes that may be in flight. Sizes are bytes, times are seconds of the clock that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

INITIAL_WINDOW_PACKETS = 10  # RFC 9002 section 7.2
INITIAL_WINDOW_BYTES = 14720
MINIMUM_WINDOW_PACKETS = 2  # section 7.2
LOSS_REDUCTION_FACTOR = 0.5  # section 7.3.2


class Controller(Protocol):
    """A congestion controller of one path."""

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""

    def on_sent(self, now: float, size: int, last_number: int) -> None:
        """A batch of `size` bytes, up to packet `last_number`, left."""

    def on_acked(self, now: float, size: int, sent_at: float, largest: int, rtt_s: float, limited: bool) -> None:
        """`size` bytes that left at `sent_at` arrived; `largest` is the largest number acknowledged so far.

        `rtt_s` is the latest sample; `limited` says that the window, not the application, bounded what was in flight.
        """

    def on_lost(self, now: float, sent_at: float, persistent: bool) -> None:
        """Packets were lost, the newest of them sent at `sent_at`; `persistent` as RFC 9002 section 7.6 defines."""

    def on_spurious_loss(self, sent_at: float) -> None:
        """A packet sent at `sent_at` and declared lost arrived after all."""

    def on_packet_size(self, size: int) -> None:
        """The path's packets have this size from now on."""


def named_phase(controller: Controller) -> str | None:
    """What the controller calls the phase that it is in, for logs; None if it has no property `phase`."""
    return getattr(controller, "phase", None)


ControllerFactory = Callable[[int], Controller]
"""Makes a controller for packets of the given size."""


def initial_window(packet_size: int) -> int:
    """RFC 9002 section 7.2."""
    return min(INITIAL_WINDOW_PACKETS * packet_size, max(INITIAL_WINDOW_BYTES, 2 * packet_size))
