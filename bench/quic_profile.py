"""Where the time of a packet goes in bulk transfer: the stages of both sides, in one process, without sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

from bench.result import Result
from fairway.aio.udp import UdpSocket, bind
from fairway.quic import Connection, Endpoint, QuicConfiguration, Transmit
from fairway.quic.packets.headers import FIXED_BIT, VERSION_1
from fairway.quic.packets.protection import make_opener, make_sealer
from fairway.tls import CipherSuite, ClientConfig, ServerConfig, self_signed_identity

LENGTH = 256 << 20
PAYLOAD = 1452
BATCH = 44
ROUNDS = 3


def _clock() -> datetime:
    return datetime.now(UTC)


def _connect() -> tuple[Connection, Connection]:
    configuration = QuicConfiguration(udp_payload=PAYLOAD)
    endpoint = Endpoint(
        ServerConfig((self_signed_identity(["localhost"]),), ("p",)), configuration, random=os.urandom, clock=_clock
    )
    tls = ClientConfig("localhost", ("p",), verify=False)
    client = Connection.client(tls, configuration, now=1.0, random=os.urandom, clock=_clock)
    servers: list[Connection] = []
    for _ in range(10):
        while (out := client.transmit(1.0)) is not None:
            servers += endpoint.receive(out.data, out.segment, ("192.0.2.1", 1), 1.0)
        while servers and (out := servers[0].transmit(1.0)) is not None:
            client.receive(out.data, out.segment, 1.0)
    return client, servers[0]


def _transfer() -> dict[str, float]:
    """Microseconds a packet of each stage of the core."""
    client, server = _connect()
    stream_id = client.open_stream()
    assert stream_id is not None
    block = os.urandom(1 << 20)
    spent = dict.fromkeys(("transmit", "receive", "read", "acknowledge"), 0.0)
    now, written, read, packets = 1.0, 0, 0, 0
    clock = time.perf_counter
    while read < LENGTH:
        while written < LENGTH:
            accepted = client.write(stream_id, block)
            written += accepted
            if accepted < len(block):
                break
        now += 0.0005
        outs: list[Transmit] = []
        begun = clock()
        while len(outs) < 8 and (out := client.transmit(now)) is not None:
            outs.append(out)
        sent = clock()
        for out in outs:
            server.receive(out.data, out.segment, now)
            packets += -(-len(out.data) // out.segment)
        received = clock()
        read += len(server.read(stream_id))
        taken = clock()
        server.events()
        client.events()
        while (out := server.transmit(now)) is not None:
            client.receive(out.data, out.segment, now)
        client.handle_timeout(now)
        ended = clock()
        for stage, seconds in zip(spent, (sent - begun, received - sent, taken - received, ended - taken), strict=True):
            spent[stage] += seconds
    return {stage: seconds / packets * 1e6 for stage, seconds in spent.items()}


def _timed(work: Callable[[], object], rounds: int = 500) -> float:
    """Microseconds a packet of something done for a whole batch."""
    work()
    begun = time.perf_counter()
    for _ in range(rounds):
        work()
    return (time.perf_counter() - begun) / rounds / BATCH * 1e6


def _parts() -> dict[str, float]:
    """Microseconds a packet of what the stages are made of."""
    payloads = [os.urandom(PAYLOAD - 29)] * BATCH
    sealer = make_sealer(VERSION_1, CipherSuite.AES_128_GCM_SHA256, bytes(32))
    opener = make_opener(VERSION_1, CipherSuite.AES_128_GCM_SHA256, bytes(32))
    buffer = sealer.seal(FIXED_BIT, b"8bytesid", 1 << 20, 4, payloads)
    segment = len(buffer) // BATCH
    ends = UdpSocket(bind("127.0.0.1", 0)), UdpSocket(bind("127.0.0.1", 0))
    address = ends[1].address

    def over_the_socket() -> None:
        ends[0].send(buffer, segment, address)
        while ends[1].receive() is None:
            pass

    parts = {
        "of transmit: seal and mask": _timed(lambda: sealer.seal(FIXED_BIT, b"8bytesid", 1 << 20, 4, payloads)),
        "of receive: unmask and open": _timed(
            lambda: opener.open_batch(buffer, len(buffer), segment, b"8bytesid", (1 << 20) - 1, 0)
        ),
        "kernel: send and receive a batch": _timed(over_the_socket),
    }
    for end in ends:
        end.close()
    return parts


def run() -> Result:
    """Medians of rounds."""
    result = Result("quic_profile")
    samples = [_transfer() | _parts() for _ in range(ROUNDS)]
    for stage in samples[0]:
        result.add("fairway", stage, [sample[stage] for sample in samples], "us/packet")
    result.notes.append(f"{PAYLOAD}-byte datagrams, {LENGTH >> 20} MiB, one process; the kernel's part over loopback")
    return result


if __name__ == "__main__":
    print(run().as_table())
