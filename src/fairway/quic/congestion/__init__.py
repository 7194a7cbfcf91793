"""Congestion controllers by name, and the interface that an application's own one implements."""

from fairway.quic.congestion.cubic import Cubic
from fairway.quic.congestion.interface import Controller, ControllerFactory, named_phase
from fairway.quic.congestion.reno import Reno

CONTROLLERS: dict[str, ControllerFactory] = {"cubic": Cubic, "reno": Reno}
"""What `congestion=` in a configuration may name; an application adds its own factory here or passes it."""

__all__ = ["CONTROLLERS", "Controller", "ControllerFactory", "Cubic", "Reno", "named_phase"]
