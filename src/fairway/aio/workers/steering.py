"""Which of the sockets of a port a datagram goes to: a classic BPF program that reads its connection ID.

Linux asks the program for an index into the sockets of a reuseport group, in the order in which they were bound
(socket(7), SO_ATTACH_REUSEPORT_CBPF). It sees the UDP payload. Unlike an eBPF program it needs no privilege and no
loader, and it is exchanged as a whole, so that a new generation of workers takes over between two packets.

    connection ID of ours, its worker runs      that worker's socket
    anything else                               one of those who accept newcomers, by a hash of the connection ID

A client's packets before it knows an ID of ours, 0-RTT included, carry the ID that it chose, so they stay together
wherever they come from. A load beyond the end of a datagram ends the program with index 0: no packet is so short.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Sequence

from fairway.quic.connection_ids import LOCAL_LENGTH
from fairway.quic.endpoint.ids import ServerId

SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_INSTRUCTION = struct.Struct("=HBBI")  # linux/filter.h: struct sock_filter
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog

# linux/bpf_common.h
_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD = 0x30, 0x28, 0x20  # at a fixed place
_LOAD_BYTE_AT, _LOAD_HALF_AT, _LOAD_WORD_AT = 0x50, 0x48, 0x40  # at X + k
_SET_X, _X_FROM_MEMORY, _TO_MEMORY = 0x01, 0x61, 0x02
_ADD, _MULTIPLY, _SHIFT_RIGHT, _MODULO, _XOR_X = 0x04, 0x24, 0x74, 0x94, 0xAC
_A_TO_X, _X_TO_A = 0x07, 0x87
_JUMP, _IF_EQUAL, _IF_GREATER_OR_EQUAL, _IF_SET = 0x05, 0x15, 0x35, 0x45
_RETURN, _RETURN_A = 0x06, 0x16

_GOLDEN = 0x9E3779B1
"""2^32 divided by the golden ratio: spreads whatever bits differ over the upper ones."""

_SHORT_AT, _LONG_AT, _LENGTH_AT = 1, 6, 5  # where a connection ID is, and its length (RFC 8999)

Instruction = tuple[int, int, int, int]


def program(server: ServerId, newcomers: Sequence[int], running: Iterable[int]) -> list[Instruction]:
    """Instructions (code, jump if true, jump if false, operand) that steer by the connection IDs of `server`.

    Numbers of workers are indexes of sockets: `newcomers` take who has no ID of a worker in `running`.
    """
    if not newcomers:
        raise ValueError("somebody has to take newcomers")
    to_spread = _spread(newcomers)
    to_worker = _worker(server, running)
    head: list[Instruction] = [
        (_LOAD_BYTE, 0, 0, 0),
        (_IF_SET, 2, 0, 0x80),
        (_SET_X, 0, 0, _SHORT_AT),
        (_JUMP, 0, 0, 4),  # to what follows the head
        (_SET_X, 0, 0, _LONG_AT),
        (_LOAD_BYTE, 0, 0, _LENGTH_AT),
        (_IF_EQUAL, 1, 0, server.id_length),
        (_JUMP, 0, 0, len(to_worker)),
    ]
    made = [*head, *to_worker, *to_spread]
    if len(made) > MAX_INSTRUCTIONS:
        raise ValueError(f"{len(made)} instructions are more than the kernel takes")
    return made


def _worker(server: ServerId, running: Iterable[int]) -> list[Instruction]:
    """Return the worker of the ID at X if it runs; else go on, with X at the last eight bytes of the ID."""
    prefix = server.prefix
    checks: list[list[Instruction]] = []
    at = 0
    for load, size in ((_LOAD_WORD_AT, 4), (_LOAD_HALF_AT, 2), (_LOAD_BYTE_AT, 1)):
        while len(prefix) - at >= size:
            checks.append([(load, 0, 0, at), (_IF_EQUAL, 1, 0, int.from_bytes(prefix[at : at + size], "big"))])
            at += size
    found: list[Instruction] = [(_LOAD_HALF_AT, 0, 0, len(prefix))]
    for start, end in _runs(sorted(running)):
        found += [(_IF_GREATER_OR_EQUAL, 0, 2, start), (_IF_GREATER_OR_EQUAL, 1, 0, end), (_RETURN_A, 0, 0, 0)]
    made: list[Instruction] = []
    left = sum(len(check) + 1 for check in checks) + len(found)
    for check in checks:
        left -= len(check) + 1
        made += [*check, (_JUMP, 0, 0, left)]
    return [*made, *found, (_X_TO_A, 0, 0, 0), (_ADD, 0, 0, server.id_length - LOCAL_LENGTH), (_A_TO_X, 0, 0, 0)]


def _spread(newcomers: Sequence[int]) -> list[Instruction]:
    """Return one of these, by the eight bytes at X."""
    numbers = sorted(newcomers)
    made: list[Instruction] = [
        (_LOAD_WORD_AT, 0, 0, 4),
        (_TO_MEMORY, 0, 0, 0),
        (_LOAD_WORD_AT, 0, 0, 0),
        (_X_FROM_MEMORY, 0, 0, 0),
        (_XOR_X, 0, 0, 0),
        (_MULTIPLY, 0, 0, _GOLDEN),
        (_SHIFT_RIGHT, 0, 0, 16),
        (_MODULO, 0, 0, len(numbers)),
    ]
    begun = 0
    for start, end in _runs(numbers):
        count = end - start
        made += [(_IF_GREATER_OR_EQUAL, 2, 0, begun + count), (_ADD, 0, 0, start - begun), (_RETURN_A, 0, 0, 0)]
        begun += count
    return [*made, (_RETURN, 0, 0, numbers[0])]


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as ranges, the end excluded."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def attach(sock: socket.socket, instructions: Sequence[Instruction]) -> None:
    """Let the program choose for all sockets of the group that `sock` is in, from the next datagram on."""
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    described = _PROGRAM.pack(len(instructions), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, described)
