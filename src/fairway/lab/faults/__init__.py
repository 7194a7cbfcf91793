"""Delay, jitter, loss and rate of a lab's links: by the kernel's netem where it has it, else by a relay process."""

from __future__ import annotations

import functools

from fairway.lab.faults.processes import Relay, find_relays, relay_is_here, relay_matches, start_relay, stop_relay

__all__ = ["Relay", "engine", "find_relays", "relay_is_here", "relay_matches", "start_relay", "stop_relay"]


@functools.cache
def engine() -> str:
    """What makes the faults on this machine: "netem" or "relay". Tried once a process."""
    from fairway.lab.faults import netem  # pyroute2, which a relay must not wait for

    return "netem" if netem.supported() else "relay"
