"""Observers of a connection: they are told what happens, and change nothing. qlog is one."""

from fairway.quic.observe.observer import DropReason, Observe, ObservedPacket, Observer, nobody
from fairway.quic.observe.qlog import QlogObserver, Sink

__all__ = ["DropReason", "Observe", "ObservedPacket", "Observer", "QlogObserver", "Sink", "nobody"]
