"""Streams that we ended: who has to know whether the peer has all of them asks here."""

from __future__ import annotations

from fairway.aio.signal import Signal
from fairway.http3 import H3Code
from fairway.quic import Connection


class Deliveries:
    """The streams of one connection whose end the peer has not acknowledged; true if there are any."""

    __slots__ = ("_core", "_streams", "all_made")

    def __init__(self, core: Connection) -> None:
        self._core = core
        self._streams: set[int] = set()
        self.all_made = Signal()
        """Fires when there are none any more."""

    def __bool__(self) -> bool:
        return bool(self._streams)

    def expect(self, stream_id: int) -> None:
        """A stream was ended by us."""
        self._streams.add(stream_id)

    def settle(self, stream_id: int) -> None:
        """The peer has all of a stream, or takes no more of it."""
        if self._streams:
            self._streams.discard(stream_id)
            if not self._streams:
                self.all_made.fire()

    def settle_all(self) -> None:
        """The connection is over."""
        self._streams.clear()
        self.all_made.fire()

    def unsent(self) -> list[int]:
        """Streams of which bytes were never sent: the peer does not take them, or not yet."""
        return [stream_id for stream_id in self._streams if self._core.unsent(stream_id)]

    def give_up_unsent(self, code: int = H3Code.H3_REQUEST_CANCELLED) -> None:
        """Give up the streams of `unsent`: what was not sent of them is kept no longer."""
        for stream_id in self.unsent():
            self._core.reset(stream_id, code)
            self.settle(stream_id)
