"""ICMP echo (RFC 792, RFC 4443) out of many namespaces at once, by raw sockets of our own and one poll loop.

A socket of each IP version is opened inside a source's namespace and used from here. Probes go out source by source in
batches, so that descriptors, memory and rate stay bounded whatever is asked. An echo carries its own index and send
time, so an answer needs no state to be told apart from others, and one that is late still counts for its own try.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from errno import EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL, ENETUNREACH, EPERM
from functools import partial
from itertools import groupby

from fairway.net.kernel.namespaces import inside
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPAddress

Progress = Callable[[int, int], None]

_BATCH_PROBES = 1 << 15
_BATCH_SOURCES = 128
_SPARE_DESCRIPTORS = 64  # left to the rest of the process
_RATE_PER_S = 40_000  # of the first try; each further one has half of the former's
_BURST = 32  # echoes sent between two looks at what came back
_READS = 128  # answers taken from one socket before the next one's turn
_BUFFER = 1 << 20
_PROGRESS_S = 0.1

_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_SOL_RAW, _ICMP_FILTER = 255, 1  # linux/icmp.h
_ICMPV6_FILTER = 1  # linux/icmpv6.h
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_TIMESPEC = struct.Struct("@qq")
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_PAYLOAD = struct.Struct("!8sId4x")  # whose echo it is, the index of its probe, when it was sent (s)
_WORDS = struct.Struct("!16H")  # an echo is 32 octets long
_DEFINITE = {ENETUNREACH, EPERM, EACCES, EINVAL, EADDRNOTAVAIL, EAFNOSUPPORT}
"""What a send fails with that no other try would mend."""


@dataclass(frozen=True, slots=True)
class Probe:
    """An echo to `target` out of the namespace of that name; empty: the one Fairway runs in."""

    source_namespace: str
    target: IPAddress


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of `probe`: the round trip of the first echo that came back, or None; `error`: why none was sent."""

    probe: Probe
    rtt_ms: float | None
    error: str = ""


def ping(
    probes: Sequence[Probe], *, tries: int = 3, timeout_s: float = 1.0, progress: Progress | None = None
) -> list[Answer]:
    """An answer to each of `probes`, in their order; the last echo of a try is waited for `timeout_s`.

    `progress` is told, now and then, how many probes of how many are decided.
    """
    answers: list[Answer | None] = [None] * len(probes)
    decided = 0

    def tell(of_batch: int) -> None:
        if progress is not None:
            progress(decided + of_batch, len(probes))

    for batch in _batches(probes):
        run = _Run([probes[index] for index in batch], tell)
        try:
            for index, answer in zip(batch, run.answers(tries, timeout_s), strict=True):
                answers[index] = answer
        finally:
            run.close()
        decided += len(batch)
        tell(0)
    return [answer for answer in answers if answer is not None]


def _batches(probes: Sequence[Probe]) -> Iterator[list[int]]:
    """The indices of all probes, one source's together, in lists so short that sockets and memory suffice."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = limit - len(os.listdir("/proc/self/fd")) - _SPARE_DESCRIPTORS
    most_sources = max(1, min(_BATCH_SOURCES, free // 2))
    order = sorted(range(len(probes)), key=lambda index: probes[index].source_namespace)
    batch: list[int] = []
    sources = 0
    for _, group in groupby(order, key=lambda index: probes[index].source_namespace):
        indices = list(group)
        if batch and (sources == most_sources or len(batch) + len(indices) > _BATCH_PROBES):
            yield batch
            batch, sources = [], 0
        batch += indices
        sources += 1
        while len(batch) > _BATCH_PROBES:
            yield batch[:_BATCH_PROBES]
            batch = batch[_BATCH_PROBES:]
    if batch:
        yield batch


class _Run:
    """One batch: its sockets, and what is known of each of its probes."""

    def __init__(self, probes: Sequence[Probe], tell: Callable[[int], None]) -> None:
        self._probes = probes
        self._tell = tell
        self._told_at = time.monotonic()
        self._rtts: list[float | None] = [None] * len(probes)
        self._errors: dict[int, str] = {}
        self._missing = len(probes)
        self._mark = os.urandom(8)
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._unopened: dict[tuple[str, int], str] = {}
        self._by_descriptor: dict[int, tuple[str, socket.socket]] = {}
        self._poll = select.epoll()

    def close(self) -> None:
        """End every socket."""
        self._poll.close()
        for opened in self._sockets.values():
            opened.close()

    def answers(self, tries: int, timeout_s: float) -> Iterator[Answer]:
        """Try every probe, up to `tries` times; then one answer each."""
        for key in dict.fromkeys((probe.source_namespace, probe.target.version) for probe in self._probes):
            self._open(*key)
        for attempt in range(tries):
            pending = [index for index, rtt in enumerate(self._rtts) if rtt is None and index not in self._errors]
            self._try(pending, attempt, _RATE_PER_S / 2**attempt, timeout_s)
        for index, (probe, rtt) in enumerate(zip(self._probes, self._rtts, strict=True)):
            yield Answer(probe, rtt, "" if rtt is not None else self._errors.get(index, ""))

    def _open(self, namespace: str, version: int) -> None:
        try:
            opened = inside(namespace, partial(raw_socket, version))
        except (OSError, FairwayError) as error:
            self._unopened[namespace, version] = str(error)
            return
        self._sockets[namespace, version] = opened
        self._by_descriptor[opened.fileno()] = (namespace, opened)
        self._poll.register(opened, select.EPOLLIN)

    def _try(self, pending: Sequence[int], attempt: int, rate_per_s: float, timeout_s: float) -> None:
        """Send an echo for each of `pending`, no faster than the rate, and take answers until all or time is gone."""
        start = time.monotonic()
        for first in range(0, len(pending), _BURST):
            for index in pending[first : first + _BURST]:
                self._send(index, attempt)
            self._take(0.0)
            self._take_until(start + (first + _BURST) / rate_per_s)
        if pending:
            self._take_until(time.monotonic() + timeout_s)

    def _send(self, index: int, attempt: int) -> None:
        probe = self._probes[index]
        key = (probe.source_namespace, probe.target.version)
        opened = self._sockets.get(key)
        if opened is None:
            self._fail(index, self._unopened[key])
            return
        request = echo(probe.target.version, self._mark, index, attempt)
        try:
            opened.sendto(request, (str(probe.target), 0))
        except OSError as error:
            if error.errno in _DEFINITE:
                self._fail(index, error.strerror or str(error))

    def _fail(self, index: int, why: str) -> None:
        self._errors[index] = why
        self._missing -= 1

    def _take_until(self, end: float) -> None:
        while self._missing and (left := end - time.monotonic()) > 0:
            self._take(left)

    def _take(self, wait_s: float) -> None:
        """Take in what has come; wait up to `wait_s` if nothing has."""
        for descriptor, _ in self._poll.poll(wait_s):
            namespace, opened = self._by_descriptor[descriptor]
            for _ in range(_READS):
                try:
                    data, extra, _, sender = opened.recvmsg(256, 64)
                except OSError:
                    break
                self._count(namespace, opened.family, data, extra, sender[0])
        now = time.monotonic()
        if now - self._told_at > _PROGRESS_S:
            self._told_at = now
            self._tell(len(self._probes) - self._missing)

    def _count(
        self, namespace: str, family: int, data: bytes, extra: list[tuple[int, int, bytes]], sender: str
    ) -> None:
        found = _payload(4 if family == socket.AF_INET else 6, data)
        if found is None:
            return
        mark, index, sent = found
        if mark != self._mark or index >= len(self._probes) or self._rtts[index] is not None:
            return
        probe = self._probes[index]
        if probe.source_namespace == namespace and str(probe.target) == sender.partition("%")[0]:
            self._rtts[index] = max(0.0, (_arrival(extra) - sent) * 1000)
            self._missing -= 1


def raw_socket(version: int) -> socket.socket:
    """A raw ICMP socket in the calling thread's namespace, to which only echo replies come."""
    opened = socket.socket(_FAMILY[version], socket.SOCK_RAW | socket.SOCK_NONBLOCK, _PROTOCOL[version])
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    if version == 4:
        opened.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << _REPLY[4]) & 0xFFFFFFFF))
    else:
        blocked = [0xFFFFFFFF] * 8
        blocked[_REPLY[6] >> 5] &= ~(1 << (_REPLY[6] & 31))
        opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *blocked))
    return opened


def echo(version: int, mark: bytes, index: int, attempt: int = 0) -> bytes:
    """An echo request, told from others by `mark`, of 8 octets, and `index`; the kernel does ICMPv6's checksum."""
    identifier, sequence = index & 0xFFFF, attempt + 1
    payload = _PAYLOAD.pack(mark, index, time.time())
    if version == 6:
        return _HEADER.pack(_REQUEST[6], 0, 0, identifier, sequence) + payload
    total = sum(_WORDS.unpack(_HEADER.pack(_REQUEST[4], 0, 0, identifier, sequence) + payload))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return _HEADER.pack(_REQUEST[4], 0, checksum, identifier, sequence) + payload


def answered(version: int, mark: bytes, data: bytes) -> int | None:
    """The index of the echo with that mark that a raw socket's `data` answers; None if it answers none."""
    found = _payload(version, data)
    return found[1] if found is not None and found[0] == mark else None


def _payload(version: int, data: bytes) -> tuple[bytes, int, float] | None:
    start = (data[0] & 15) * 4 if version == 4 and data else 0  # IPv4's own header comes with a raw socket's packet
    if len(data) < start + _HEADER.size + _PAYLOAD.size or data[start] != _REPLY[version]:
        return None
    mark, index, sent = _PAYLOAD.unpack_from(data, start + _HEADER.size)
    return mark, index, sent


def _arrival(extra: list[tuple[int, int, bytes]]) -> float:
    """When the kernel got the packet, in seconds since 1970; now, if it does not say."""
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return float(seconds + nanoseconds / 1e9)
    return time.time()
