"""Relays as processes: started, found without any memory of them, compared with what they should do, stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fairway.lab import processes
from fairway.lab.faults.arguments import MODULE, READY_NAME, Arguments, from_command_line, words
from fairway.lab.model import Faults
from fairway.lab.processes import command_line
from fairway.net.model.errors import FairwayError

_START_S = 20.0  # how long a relay may take to be ready, on a machine that is busy
_STOP_S = 2.0  # how long after SIGTERM before SIGKILL


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay: `start_time` (field 22 of /proc/PID/stat) tells it from a later process of the same number."""

    pid: int
    start_time: int
    namespace: str


def start_relay(namespace: str, ports: Sequence[str], faults: Faults, *, title: str) -> Relay:
    """Start the relay of a link, as a daemon, and return when it forwards.

    `namespace` is a name under /run/netns; `ports` are interfaces in it, up, without addresses: the far ends of the
    members' own. The members' ends need no setting. A namespace has one relay at
    most. FairwayError holds what the relay said; then none is left.
    """
    arguments = Arguments(namespace, tuple(ports), faults, title)
    command = [sys.executable, "-S", "-P", "-m", MODULE, *words(arguments)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
        env=processes.environment(),
    )
    try:
        said = process.communicate(timeout=_START_S)[0].decode(errors="replace").strip()
    except BaseException as error:  # its pipe closes with us: a relay that nobody hears does not stay
        process.kill()
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise FairwayError(f"the relay of {title} was not ready after {_START_S:.0f} s") from None
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
    first, _, pid = said.partition(" ")
    if first != "ready" or not pid.isdecimal():
        raise FairwayError(f"the relay of {title} did not start: {said or 'it said nothing'}")
    start_time = _start_time(int(pid))
    if start_time is None:
        raise FairwayError(f"the relay of {title} ended as soon as it had started")
    return Relay(int(pid), start_time, namespace)


def relay_matches(relay: Relay, ports: Sequence[str], faults: Faults) -> bool:
    """Whether `relay` runs, in the namespace that now has its name, and does exactly that to exactly those ports."""
    if _start_time(relay.pid) != relay.start_time:
        return False
    told = from_command_line(command_line(relay.pid))
    if told is None or told.namespace != relay.namespace:
        return False
    return relay_is_here(relay) and sorted(told.ports) == sorted(ports) and told.faults == faults


def relay_is_here(relay: Relay) -> bool:
    """Whether `relay` is in the namespace that now has its name; one that is not is another's, or ends by itself."""
    return processes.is_in(relay.pid, relay.namespace)


def find_relays(namespace_prefix: str) -> list[Relay]:
    """Every running relay of our user namespace whose network namespace's name begins so, whoever started it."""
    found = []
    for pid in processes.numbers():
        told = from_command_line(command_line(pid))
        if told is None or not told.namespace.startswith(namespace_prefix):
            continue
        start_time = _start_time(pid)
        if start_time is not None and processes.shares(pid, "user"):
            found.append(Relay(pid, start_time, told.namespace))
    return sorted(found, key=lambda relay: (relay.namespace, relay.pid))


def stop_relay(relay: Relay) -> None:
    """End `relay`, and return when it has. It may have ended long ago; whoever has its number now is left alone."""
    processes.end(relay.pid, lambda: _start_time(relay.pid) == relay.start_time, _STOP_S)


def _start_time(pid: int) -> int | None:
    """When the process started, in ticks since boot; None if it is no relay that forwards: none, dead, starting."""
    return processes.start_time(pid, READY_NAME)
