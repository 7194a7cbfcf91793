"""A capture, decrypted by tshark with the client's key log, as facts about its datagrams and packets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interop.endpoints.environment import PORT

VERSION_2 = 0x6B3343CF
INITIAL, ZERO_RTT, HANDSHAKE, RETRY, ONE_RTT = range(5)
_OF_VERSION_2 = {0: RETRY, 1: INITIAL, 2: ZERO_RTT, 3: HANDSHAKE}  # RFC 9369 section 3.2

ACK_ECN, CRYPTO, MAX_DATA, MAX_STREAM_DATA = 0x03, 0x06, 0x10, 0x11
STREAM = range(0x08, 0x10)
CLIENT_HELLO, CERTIFICATE = 1, 11

_FIELDS = (
    "frame.time_epoch",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "ip.dsfield.ecn",
    "ipv6.tclass.ecn",
    "quic.header_form",
    "quic.packet_length",
    "quic.version",
    "quic.long.packet_type",
    "quic.long.packet_type_v2",
    "quic.scid",
    "quic.dcid",
    "quic.token",
    "quic.retry_token",
    "quic.packet_number",
    "quic.key_phase",
    "quic.frame_type",
    "quic.crypto.length",
    "quic.crypto.offset",
    "quic.path_challenge.data",
    "quic.path_response.data",
    "tls.handshake.type",
    "tls.handshake.ciphersuite",
    "tls.quic.parameter.initial_max_streams_bidi",
)


class CaptureError(Exception):
    """tshark could not read it; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram with QUIC in it. Lists are in the order of its packets, or of the frames in them."""

    time: float
    from_client: bool
    source: tuple[str, int]
    destination: tuple[str, int]
    size: int
    """Bytes of UDP payload."""
    ecn: int
    kinds: list[int]
    """INITIAL to ONE_RTT, of each packet."""
    sizes: list[int]
    """Bytes of each packet."""
    versions: list[int]
    source_ids: list[str]
    destination_ids: list[str]
    tokens: list[str]
    retry_tokens: list[str]
    numbers: list[int]
    """Packet numbers, of those that were decrypted."""
    key_phases: list[int]
    frames: list[int]
    crypto_bytes: list[int]
    crypto_offsets: list[int]
    challenges: list[str]
    responses: list[str]
    messages: list[int]
    """TLS handshake messages."""
    cipher_suites: list[int]
    max_streams_bidi: list[int]

    def has(self, kind: int) -> bool:
        """Whether a packet of that kind is in it."""
        return kind in self.kinds


@dataclass(frozen=True, slots=True)
class Capture:
    """What one end of the link saw."""

    datagrams: list[Datagram]
    others: frozenset[str]
    """IP versions that were seen, as "4" and "6"."""

    def of(self, *, client: bool) -> list[Datagram]:
        """Those of one sender."""
        return [datagram for datagram in self.datagrams if datagram.from_client is client]

    @property
    def retries(self) -> list[Datagram]:
        """Those with a Retry packet."""
        return [datagram for datagram in self.datagrams if datagram.has(RETRY)]

    @property
    def handshakes(self) -> int:
        """Connection IDs that the server chose in Initial packets: one for each handshake."""
        return len({datagram.source_ids[0] for datagram in self.of(client=False) if datagram.has(INITIAL)})

    def packets(self, kind: int, *, client: bool) -> list[tuple[Datagram, int]]:
        """Each packet of a kind and a sender: its datagram and its size."""
        return [
            (datagram, size)
            for datagram in self.of(client=client)
            for found, size in zip(datagram.kinds, datagram.sizes, strict=False)
            if found == kind
        ]


def read(pcap: Path, keylog: Path, ports: tuple[int, ...] = (PORT, PORT + 1)) -> Capture:
    """Decrypt a capture."""
    command = ["tshark", "-n", "-r", str(pcap), "-o", f"tls.keylog_file:{keylog}"]
    for port in ports:
        command += ["-d", f"udp.port=={port},quic"]
    command += ["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,", "-E", "separator=/t"]
    for field in _FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CaptureError(done.stderr.strip())
    rows = [dict(zip(_FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]
    versions = frozenset(version for row in rows for version, name in (("4", "ip.src"), ("6", "ipv6.src")) if row[name])
    quic = [row for row in rows if "quic" in row["frame.protocols"] and "icmp" not in row["frame.protocols"]]
    return Capture([_datagram(row, ports) for row in quic], versions)


def _datagram(row: dict[str, str], ports: tuple[int, ...]) -> Datagram:
    source = (row["ip.src"] or row["ipv6.src"], int(row["udp.srcport"]))
    destination = (row["ip.dst"] or row["ipv6.dst"], int(row["udp.dstport"]))
    versions = list(_numbers(row["quic.version"]))
    sizes = list(_numbers(row["quic.packet_length"]))
    return Datagram(
        time=float(row["frame.time_epoch"]),
        from_client=destination[1] in ports,
        source=source,
        destination=destination,
        size=int(row["udp.length"]) - 8,
        ecn=int(row["ip.dsfield.ecn"] or row["ipv6.tclass.ecn"] or "0", 0),
        kinds=list(_kinds(row)),
        sizes=sizes,
        versions=versions,
        source_ids=_texts(row["quic.scid"]),
        destination_ids=_texts(row["quic.dcid"]),
        tokens=_texts(row["quic.token"]),
        retry_tokens=_texts(row["quic.retry_token"]),
        numbers=list(_numbers(row["quic.packet_number"])),
        key_phases=list(_numbers(row["quic.key_phase"])),
        frames=list(_numbers(row["quic.frame_type"])),
        crypto_bytes=list(_numbers(row["quic.crypto.length"])),
        crypto_offsets=list(_numbers(row["quic.crypto.offset"])),
        challenges=_texts(row["quic.path_challenge.data"]),
        responses=_texts(row["quic.path_response.data"]),
        messages=list(_numbers(row["tls.handshake.type"])),
        cipher_suites=list(_numbers(row["tls.handshake.ciphersuite"])),
        max_streams_bidi=list(_numbers(row["tls.quic.parameter.initial_max_streams_bidi"])),
    )


def _kinds(row: dict[str, str]) -> Iterator[int]:
    """The packets' kinds: tshark has a field for those of version 1 and another for those of version 2."""
    first, second = iter(_texts(row["quic.long.packet_type"])), iter(_texts(row["quic.long.packet_type_v2"]))
    versions = _numbers(row["quic.version"])
    for form in _numbers(row["quic.header_form"]):
        if not form:
            yield ONE_RTT
            continue
        version = next(versions, 0)
        if version == VERSION_2:
            yield _OF_VERSION_2[int(next(second, "1"), 0)]
        elif version:
            yield int(next(first, "0"), 0)


def _texts(joined: str) -> list[str]:
    return joined.split(",") if joined else []


def _numbers(joined: str) -> Iterator[int]:
    for text in _texts(joined):
        yield {"True": 1, "False": 0}.get(text) if text in ("True", "False") else int(text, 0)  # type: ignore[misc]
