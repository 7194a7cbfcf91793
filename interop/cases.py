"""The cases: what is fetched over which link, and what the decrypted captures must show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from interop.capture import (
    ACK_ECN,
    CERTIFICATE,
    CLIENT_HELLO,
    HANDSHAKE,
    INITIAL,
    MAX_DATA,
    MAX_STREAM_DATA,
    ONE_RTT,
    STREAM,
    VERSION_2,
    ZERO_RTT,
    Capture,
    Datagram,
)
from interop.network import PREFERRED4, Link

KB, MB = 1 << 10, 1 << 20
CHACHA20 = 0x1303
_NO_SUITES = frozenset({0x00FF})
MAX_STREAMS = 1000
MAX_ONE_RTT_BYTES = 5_000
MIN_CHAIN_BYTES = 7_500
AMPLIFICATION, TOLERATED = 3, 4
ECT, CE = (1, 2), 3


class FailedError(Exception):
    """The case failed; the message says what was seen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The captures of both ends of the link."""

    client: Capture
    server: Capture

    @property
    def sent(self) -> list[Datagram]:
        """What both ends sent, before anything befell it."""
        both = self.client.of(client=True) + self.server.of(client=False)
        return sorted(both, key=lambda datagram: datagram.time)


Check = Callable[[Seen], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One case. Each file is of so many bytes, and has a name of so many characters."""

    name: str
    letters: str
    what: str
    files: tuple[int, ...]
    check: Check
    link: Link = field(default_factory=Link)
    handshakes: int = 1
    protocol: str = "hq"
    host: str = "server4"
    name_length: int = 10
    chain: int = 1
    """Certificates in the server's chain."""
    timeout_s: float = 60
    versions: frozenset[int] = frozenset({1})


def verify(case: Case, seen: Seen) -> None:
    """What every case must show, and its own check; `FailedError` if something is not so."""
    if seen.server.handshakes != case.handshakes:
        raise FailedError(f"{seen.server.handshakes} handshakes instead of {case.handshakes}")
    versions = {version for datagram in seen.sent for version in datagram.versions} - {0}
    if not versions <= case.versions:
        raise FailedError(f"version {min(versions - case.versions):#x} was spoken")
    case.check(seen)


# The checks


def _nothing(seen: Seen) -> None:
    """The files and the handshakes say all."""


def _no_retry(seen: Seen) -> None:
    if seen.server.retries:
        raise FailedError("the server sent a Retry")


def _windows_raised(seen: Seen) -> None:
    frames = {frame for datagram in seen.client.of(client=True) for frame in datagram.frames}
    if not frames & {MAX_DATA, MAX_STREAM_DATA}:
        raise FailedError("the client never raised a window")


def _repeated_hello(seen: Seen) -> None:
    first = sum(datagram.crypto_offsets.count(0) for datagram in seen.client.of(client=True) if datagram.has(INITIAL))
    if first < 2:
        raise FailedError("the ClientHello was sent once, in spite of the long round trip")


def _only_chacha20(seen: Seen) -> None:
    hellos = [datagram for datagram in seen.client.of(client=True) if CLIENT_HELLO in datagram.messages]
    offered = {suite for datagram in hellos for suite in datagram.cipher_suites} - _NO_SUITES
    if offered != {CHACHA20}:
        raise FailedError(f"the client offered {', '.join(f'{suite:#06x}' for suite in sorted(offered)) or 'nothing'}")


def _few_streams(seen: Seen) -> None:
    allowed = [limit for datagram in seen.server.of(client=False) for limit in datagram.max_streams_bidi]
    if not allowed:
        raise FailedError("the server's transport parameters were not found")
    if max(allowed) > MAX_STREAMS:
        raise FailedError(f"the server allows {max(allowed)} streams at once")


def _retried(seen: Seen) -> None:
    if not seen.client.retries:
        raise FailedError("the server sent no Retry")
    (retry, *_) = seen.client.retries
    initials = [datagram for datagram in seen.client.of(client=True) if datagram.has(INITIAL)]
    before = [number for datagram in initials if datagram.time < retry.time for number in datagram.numbers[:1]]
    after = [datagram for datagram in initials if datagram.time > retry.time]
    if not any(retry.retry_tokens[0] in datagram.tokens for datagram in after):
        raise FailedError("the client did not show the token")
    if min(number for datagram in after for number in datagram.numbers[:1]) <= max(before):
        raise FailedError("packet numbers began anew after the Retry")


def _second_connection(seen: Seen) -> float:
    """When the server first answered the second handshake."""
    initials = [datagram for datagram in seen.server.of(client=False) if datagram.has(INITIAL)]
    first = initials[0].source_ids[0]
    return next(datagram.time for datagram in initials if datagram.source_ids[0] != first)


def _resumed(seen: Seen) -> None:
    second = _second_connection(seen)
    shown = [datagram.time for datagram in seen.server.of(client=False) if CERTIFICATE in datagram.messages]
    if not any(time < second for time in shown):
        raise FailedError("no certificate was seen in the first handshake")
    if any(time >= second for time in shown):
        raise FailedError("the server showed its certificate in the second handshake as well")


def _early(seen: Seen) -> None:
    early = sum(size for _, size in seen.client.packets(ZERO_RTT, client=True))
    late = sum(
        size
        for datagram, size in seen.client.packets(ONE_RTT, client=True)
        if any(frame in STREAM for frame in datagram.frames)  # probes of the path's MTU are large and say nothing
    )
    if not early:
        raise FailedError("the client sent nothing in 0-RTT")
    if late > MAX_ONE_RTT_BYTES:
        raise FailedError(f"the client sent {late} bytes with stream data in 1-RTT")


def _both_key_phases(seen: Seen) -> None:
    for who, datagrams in (("client", seen.client.of(client=True)), ("server", seen.server.of(client=False))):
        if not any(1 in datagram.key_phases for datagram in datagrams):
            raise FailedError(f"no packet of the {who} is of the second key phase")


def _ecn(seen: Seen) -> None:
    for who, datagrams in (("client", seen.client.of(client=True)), ("server", seen.server.of(client=False))):
        if any(datagram.ecn == CE for datagram in datagrams):
            raise FailedError(f"the {who} sent a packet marked CE")
        if not any(datagram.ecn in ECT for datagram in datagrams):
            raise FailedError(f"the {who} marked no packet")
        if not any(ACK_ECN in datagram.frames for datagram in datagrams):
            raise FailedError(f"the {who} sent no counts of marks")


def _amplification(seen: Seen) -> None:
    crypto = sum(sum(datagram.crypto_bytes) for datagram in seen.server.of(client=False))
    if crypto < MIN_CHAIN_BYTES:
        raise FailedError(f"the server's handshake had {crypto} bytes only")
    received = sent = 0
    for datagram in seen.server.datagrams:
        if not datagram.from_client:
            sent += datagram.size
        elif datagram.has(HANDSHAKE):
            return
        else:
            received += datagram.size
        if sent > TOLERATED * received:
            raise FailedError(f"the server had sent {sent} bytes for {received}: {sent / received:.1f} times as many")
    raise FailedError("the client never proved its address")


def _only_ipv6(seen: Seen) -> None:
    if "4" in seen.client.others:
        raise FailedError("there were IPv4 packets")


def _version_2(seen: Seen) -> None:
    hello = next(datagram for datagram in seen.client.of(client=True) if datagram.has(INITIAL))
    if hello.versions[0] != 1:
        raise FailedError(f"the client began with version {hello.versions[0]:#x}")
    kinds = [
        (kind, version)
        for datagram in seen.sent
        for kind, version in zip([kind for kind in datagram.kinds if kind != ONE_RTT], datagram.versions, strict=False)
    ]
    spoken = {version for kind, version in kinds if kind == HANDSHAKE}
    if spoken != {VERSION_2}:
        raise FailedError(
            f"Handshake packets are of version {', '.join(f'{version:#x}' for version in sorted(spoken))}"
        )


def _answered(seen: Seen) -> None:
    asked = {data for datagram in seen.server.of(client=False) for data in datagram.challenges}
    answers = {data for datagram in seen.server.of(client=True) for data in datagram.responses}
    if not asked:
        raise FailedError("the server asked no path")
    if not asked & answers:
        raise FailedError("the client answered no challenge")


def _paths(seen: Seen, *, hosts: bool) -> None:
    """Each new path is asked with the first packet that the server sends on it (RFC 9000 section 9)."""
    paths: dict[tuple[str, int], Datagram | None] = {}
    for datagram in seen.server.datagrams:
        if datagram.from_client:
            paths.setdefault(datagram.source, None)
        elif paths.get(datagram.destination, datagram) is None:
            paths[datagram.destination] = datagram
    distinct = {path[0] for path in paths} if hosts else set(paths)
    if len(distinct) < 2:
        raise FailedError("the server saw one path only")
    answers = {data for datagram in seen.server.of(client=True) for data in datagram.responses}
    new = list(paths.items())[1:]
    for number, (_, first) in enumerate(new):
        if first is None:  # the NAT had moved on before the server sent anything
            continue
        if not first.challenges:
            raise FailedError("the first packet on a new path was no PATH_CHALLENGE")
        if not answers & set(first.challenges) and number < len(new) - 1:
            raise FailedError("a PATH_CHALLENGE was not answered")
    _answered(seen)


def _rebound_port(seen: Seen) -> None:
    _paths(seen, hosts=False)


def _rebound_address(seen: Seen) -> None:
    _paths(seen, hosts=True)


def _moved(seen: Seen) -> None:
    """The client goes to the preferred address, under another connection ID."""
    there = [datagram for datagram in seen.server.of(client=True) if datagram.destination[0] == PREFERRED4]
    if not there:
        raise FailedError("the client did not go to the server's preferred address")
    before = {
        identifier
        for datagram in seen.server.of(client=True)
        if datagram.destination[0] != PREFERRED4
        for identifier in datagram.destination_ids
    }
    if before & {identifier for datagram in there for identifier in datagram.destination_ids}:
        raise FailedError("the connection ID stayed the same")
    asked = {data for datagram in seen.client.of(client=True) for data in datagram.challenges}
    answers = {data for datagram in seen.client.of(client=False) for data in datagram.responses}
    if not asked & answers:
        raise FailedError("the new path was not validated")


# The cases


def _by_chance(fault: str, percent: float, burst: int) -> Link:
    return Link(fault=fault, arguments={"percent": percent, "burst": burst, "seed": 7})


def _nat(*, address: bool) -> Link:
    return Link(fault="nat", arguments={"first": 1, "every": 5, "address": address})


def _black_hole() -> Link:
    return Link(fault="black_hole", arguments={"on": 5, "off": 2})


_ALL = (
    Case("handshake", "H", "one handshake, no Retry", (KB,), _no_retry),
    Case("transfer", "DC", "three files at once; windows are raised", (2 * MB, 3 * MB, 5 * MB), _windows_raised),
    Case("longrtt", "LR", "a round trip of 1.5 s", (KB,), _repeated_hello, Link(delay_ms=750)),
    Case("chacha20", "C20", "the client offers ChaCha20 only", (3 * MB,), _only_chacha20),
    Case("multiplexing", "M", "1,999 files of 32 bytes on one connection", (32,) * 1999, _few_streams),
    Case("retry", "S", "the server asks for proof of the address", (KB,), _retried),
    Case("resumption", "R", "the second handshake has no certificate", (5 * KB, 10 * KB), _resumed, handshakes=2),
    Case("zerortt", "Z", "40 requests in 0-RTT", (32,) * 40, _early, handshakes=2, name_length=250),
    Case("http3", "3", "HTTP/3", (5 * KB, 10 * KB, 500 * KB), _nothing, protocol="h3"),
    Case("blackhole", "B", "the link is dead for 2 s of each 7", (10 * MB,), _nothing, _black_hole()),
    Case("keyupdate", "U", "keys change during the transfer", (3 * MB,), _both_key_phases),
    Case("ecn", "E", "both mark, both count", (100 * KB,), _ecn),
    Case(
        "amplificationlimit", "A", "nine certificates; packets 2 to 7 of the client lost", (5 * KB,), _amplification,
        Link(fault="drop_list", arguments={"to_server": [2, 3, 4, 5, 6, 7]}), chain=9,
    ),
    Case(
        "handshakeloss", "L1", "50 connections, 30 % loss", (KB,) * 50, _nothing, _by_chance("drop", 30, 3),
        handshakes=50, timeout_s=300,
    ),
    Case("transferloss", "L2", "2 % loss", (2 * MB,), _nothing, _by_chance("drop", 2, 3)),
    Case(
        "handshakecorruption", "C1", "50 connections, 30 % of packets corrupted", (KB,) * 50, _nothing,
        _by_chance("corrupt", 30, 3), handshakes=50, timeout_s=300,
    ),
    Case("transfercorruption", "C2", "2 % of packets corrupted", (2 * MB,), _nothing, _by_chance("corrupt", 2, 3)),
    Case("ipv6", "6", "no IPv4", (5 * KB,), _only_ipv6, host="server6"),
    Case("v2", "V2", "from version 1 to 2 in one handshake", (KB,), _version_2, versions=frozenset({1, VERSION_2})),
    Case("rebind-port", "BP", "a NAT gives the client other ports", (10 * MB,), _rebound_port, _nat(address=False)),
    Case("rebind-addr", "BA", "the same with other addresses", (10 * MB,), _rebound_address, _nat(address=True)),
    Case("connectionmigration", "CM", "the client goes to the preferred address", (2 * MB,), _moved),
)  # fmt: skip

CASES = {case.name: case for case in _ALL}
