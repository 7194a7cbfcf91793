"""The process that is a link with faults: `python -m fairway.lab.faults.relay --namespace NAME --port P --port Q ...`.

It enters the namespace, where it is the only relay, takes frames from each port, and sends them on by the others after
what the faults do to them. It ends by itself when every port is gone, or when the namespace is no longer bound at its
name. A port that is down, or missing while another is there, is waited for. It imports little, so that it starts fast.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import select
import signal
import socket
import sys
import time

from fairway.lab.faults.arguments import READY_NAME, Arguments, parse
from fairway.lab.faults.line import HELD_BYTES, Line
from fairway.lab.faults.ports import Port
from fairway.lab.faults.switch import Switch

NETNS_DIRECTORY = "/run/netns/"

_CLAIM_S = 1.0  # how long to wait for a relay that is just ending
_LOOK_S = 0.5  # how often to see whether the namespace, and doubtful ports, are still there
_FRAMES_A_TURN = 32  # taken from a port before frames that are due are sent
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_PR_SET_NAME, _PR_SET_TIMERSLACK = 15, 29  # linux/prctl.h


def main(words: list[str]) -> int:
    """Say "ready PID" on standard output, or what is wrong; then forward for as long as there is a link."""
    try:
        arguments = parse(words)
        _enter(arguments.namespace)
        claim = _claim(arguments.namespace)
        ports = [Port(name) for name in arguments.ports]
        for port in ports:
            if not port.look():
                raise ValueError(f"namespace {arguments.namespace} has no interface {port.name}")
    except (OSError, ValueError) as error:
        print(error)
        return 1
    if _detach():
        forward(arguments, ports)
    claim.close()
    return 0


def forward(arguments: Arguments, ports: list[Port]) -> None:
    """Carry frames between `ports` until they, or the namespace, are gone."""
    lines = [Line(arguments.faults, random.random, HELD_BYTES // len(ports)) for _ in ports]
    switch = Switch(len(ports))
    path = NETNS_DIRECTORY + arguments.namespace
    own = os.stat("/proc/self/ns/net")
    numbers = _by_descriptor(ports)
    next_look = time.monotonic() + _LOOK_S
    while True:
        now = time.monotonic()
        if now >= next_look:
            _look_after(ports)
            numbers = _by_descriptor(ports)
            if not numbers or not _is_bound(path, own):
                return
            next_look = now + _LOOK_S
        wake = min(next_look, *[line.next_due for line in lines])
        readable, _, _ = select.select(list(numbers), (), (), max(0.0, wake - now))
        for descriptor in readable:
            number = numbers[descriptor]
            _take_in(ports[number], lines[number])
        now = time.monotonic()
        for number, line in enumerate(lines):
            if line.next_due <= now:
                for frame in line.due(now):
                    for output in switch.outputs(frame, number):
                        ports[output].send(frame)


def _take_in(port: Port, line: Line) -> None:
    for _ in range(_FRAMES_A_TURN):
        frame = port.receive()
        if frame is None:
            return
        line.accept(frame, time.monotonic())


def _look_after(ports: list[Port]) -> None:
    for port in ports:
        if port.doubtful or port.socket is None:
            port.look()


def _by_descriptor(ports: list[Port]) -> dict[int, int]:
    return {port.socket.fileno(): number for number, port in enumerate(ports) if port.socket is not None}


def _is_bound(path: str, own: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), own)
    except FileNotFoundError:
        return False


def _enter(namespace: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(NETNS_DIRECTORY + namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(handle, _CLONE_NEWNET) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter the namespace {namespace}: {os.strerror(number)}")
    finally:
        os.close(handle)
    libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # nanoseconds; the default, 50 us, would be added to every delay


def _claim(namespace: str) -> socket.socket:
    """What only one process in a network namespace can have: the kernel frees this name when its holder ends."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    end = time.monotonic() + _CLAIM_S
    while True:
        try:
            claim.bind("\0fairway-relay")
            return claim
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if time.monotonic() > end:
                raise ValueError(f"another relay is at work in the namespace {namespace}") from None
        time.sleep(0.02)


def _detach() -> bool:
    """Go on in a child that nobody has to wait for; False in the parent, and where nobody is there to hear "ready"."""
    if os.fork():
        return False
    ctypes.CDLL(None).prctl(_PR_SET_NAME, READY_NAME.encode(), 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir("/")
    try:
        os.write(1, f"ready {os.getpid()}\n".encode())
    except BrokenPipeError:
        return False
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
