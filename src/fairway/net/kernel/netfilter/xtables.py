"""iptables-legacy's FORWARD chains: read by getsockopt, without a child; written by iptables-legacy's own tool.

Only the tool holds the lock under which the kernel's table may be read, changed and put back whole. A table comes into
being in a namespace by being asked for, so only those that the kernel lists are. Everything here is done in the network
namespace of the calling thread. Structures are those of linux/netfilter_ipv4/ip_tables.h and its IPv6 sibling.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairway.net.model.errors import FairwayError, KernelError

_SO_GET_INFO = 64
_SO_GET_ENTRIES = 65
_HOOK_FORWARD = 2  # NF_INET_FORWARD
_TARGET_OFFSETS = struct.Struct("=HH")  # of the target, and of the next entry
_HEADER = struct.Struct("=H29sB")  # struct xt_entry_match, xt_entry_target: size, name, revision
_VERDICT = struct.Struct("=i")
_DROP = -1  # -NF_DROP - 1
_ACCEPT = -2  # -NF_ACCEPT - 1
_INFO = struct.Struct("=32s I 5I 5I I I")  # struct ipt_getinfo: name, hooks, entries, underflows, number, size
_ENTRIES = struct.Struct("=32s I 4x")  # struct ipt_get_entries: name, size; the entries follow, aligned to 8
_NAME_SIZE = 16  # IFNAMSIZ
_COMMENT = "comment"
_TRIES = 4  # the table grew between asking for its size and for its entries
_TIMEOUT_S = 20
_LOCK_WAIT_S = "10"
_NO_LOCK = 4  # the tool's exit status when another held the lock all that time

_libc = ctypes.CDLL(None, use_errno=True)
_libc.getsockopt.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


@dataclass(frozen=True, slots=True)
class Engine:
    """One of the two legacy engines, and how its structures are laid out."""

    name: str  # that of its tool, too
    names_file: str
    family: int
    level: int
    in_interface: int  # where struct ipt_ip has the incoming interface's name; the outgoing one's, and masks, follow
    ip_size: int
    offsets_at: int  # where struct ipt_entry has target_offset and next_offset
    matches_at: int  # where struct ipt_entry ends


IPV4 = Engine("iptables-legacy", "ip_tables_names", socket.AF_INET, socket.SOL_IP, 16, 84, 88, 112)
IPV6 = Engine("ip6tables-legacy", "ip6_tables_names", socket.AF_INET6, 41, 64, 136, 140, 168)
ENGINES = (IPV4, IPV6)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a FORWARD chain, as far as we read rules. An interface is given only if it is the sole condition."""

    target: str  # "ACCEPT", "DROP", or a target's name; empty for any other verdict
    unconditional: bool
    comment: str
    in_interface: str
    out_interface: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A table's FORWARD chain."""

    table: str
    policy: str
    rules: tuple[Rule, ...]


def forward_chains(engine: Engine) -> list[Chain]:
    """The FORWARD chain of each of the engine's tables that exist in this namespace and have one."""
    tables = _table_names(engine)
    if not tables:
        return []
    with socket.socket(engine.family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
        read = [_read(engine, handle, table) for table in tables]
    return [chain for chain in read if chain is not None]


def edit(engine: Engine, table: str, lines: Sequence[str]) -> None:
    """Apply `lines`, such as "-I FORWARD -i eth0 -j ACCEPT", to `table` in one step, or none of them."""
    tool = f"{engine.name}-restore"
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        raise FairwayError(
            f"{tool} is not installed, and only it can change {engine.name}'s table {table}",
            mend="apt-get install iptables",
        )
    text = "\n".join([f"*{table}", *lines, "COMMIT", ""])
    command = [path, "--noflush", "--wait", _LOCK_WAIT_S]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FairwayError(f"{tool}: {error}") from None
    if done.returncode:
        number = errno.EBUSY if done.returncode == _NO_LOCK else errno.EINVAL
        raise KernelError(f"{tool}: {done.stderr.strip() or f'ended with {done.returncode}'}", number)


def decode(engine: Engine, table: str, info: bytes, entries: bytes) -> Chain | None:
    """The FORWARD chain in a table's bytes; None if the table has none. ValueError if they make no sense."""
    try:
        fields = _INFO.unpack_from(info)
        hooks, start, end = fields[1], fields[2 + _HOOK_FORWARD], fields[7 + _HOOK_FORWARD]
        if not hooks & (1 << _HOOK_FORWARD):
            return None
        rules = tuple(_rule(engine, entry) for entry in _walk(engine, entries, start, end))
        policy = _rule(engine, next(_walk(engine, entries, end, end + 1)))
    except (struct.error, StopIteration) as error:
        raise ValueError(f"{engine.name}: table {table} is cut short") from error
    return Chain(table, policy.target, rules)


def _table_names(engine: Engine) -> list[str]:
    try:
        with open(f"/proc/thread-self/net/{engine.names_file}") as file:
            return file.read().split()
    except FileNotFoundError:  # this kernel has no such engine
        return []
    except OSError as error:
        raise KernelError(f"cannot read {engine.names_file}: {error.strerror}", error.errno or 0) from None


def _read(engine: Engine, handle: socket.socket, table: str) -> Chain | None:
    name = table.encode()
    for _ in range(_TRIES):
        info = _ask(engine, handle, _SO_GET_INFO, name, _INFO.size)
        size = _INFO.unpack(info)[-1]
        request = _ENTRIES.pack(name, size)
        try:
            entries = _ask(engine, handle, _SO_GET_ENTRIES, request, _ENTRIES.size + size)[_ENTRIES.size :]
            return decode(engine, table, info, entries)
        except KernelError as error:
            if error.errno != errno.EAGAIN:
                raise
        except ValueError as error:
            raise KernelError(str(error), errno.EPROTO) from None
    raise KernelError(f"{engine.name}: table {table} changed during every try to read it", errno.EAGAIN)


def _ask(engine: Engine, handle: socket.socket, option: int, request: bytes, size: int) -> bytes:
    """What getsockopt leaves in a buffer of `size` that begins with `request`; Python's own sends no request along."""
    buffer = ctypes.create_string_buffer(request, size)
    length = ctypes.c_uint32(size)
    if _libc.getsockopt(handle.fileno(), engine.level, option, buffer, ctypes.byref(length)) < 0:
        number = ctypes.get_errno()
        mend = "run it as root (CAP_NET_ADMIN)" if number == errno.EPERM else ""
        raise KernelError(f"cannot read {engine.name}'s tables: {os.strerror(number)}", number, mend=mend)
    return buffer.raw[: length.value]


def _walk(engine: Engine, entries: bytes, start: int, end: int) -> Iterator[bytes]:
    """Each entry from offset `start` up to offset `end`."""
    offset = start
    while offset < end:
        target, following = _TARGET_OFFSETS.unpack_from(entries, offset + engine.offsets_at)
        if target < engine.matches_at or following < target + _HEADER.size or offset + following > len(entries):
            raise struct.error("an entry goes past its end")
        yield entries[offset : offset + following]
        offset += following


def _rule(engine: Engine, entry: bytes) -> Rule:
    target_at, _ = _TARGET_OFFSETS.unpack_from(entry, engine.offsets_at)
    names = engine.in_interface
    masks = names + 2 * _NAME_SIZE
    incoming, outgoing = (_interface(entry, names + side, masks + side) for side in (0, _NAME_SIZE))
    rest = entry[:names] + entry[masks + 2 * _NAME_SIZE : engine.ip_size]
    matches = list(_matches(entry[engine.matches_at : target_at]))
    comment = next((data.split(b"\0")[0].decode(errors="replace") for name, data in matches if name == _COMMENT), "")
    no_more = not any(rest) and all(name == _COMMENT for name, _ in matches)
    return Rule(
        target=_target(entry[target_at:]),
        unconditional=no_more and not any(entry[masks : masks + 2 * _NAME_SIZE]),
        comment=comment,
        in_interface=incoming if no_more and not outgoing else "",
        out_interface=outgoing if no_more and not incoming else "",
    )


def _interface(entry: bytes, name_at: int, mask_at: int) -> str:
    """The interface that a rule names; with a "+" if it names all that begin so; empty if it names none."""
    mask = entry[mask_at : mask_at + _NAME_SIZE]
    if not any(mask):
        return ""
    name = entry[name_at : name_at + _NAME_SIZE].split(b"\0")[0]
    exact = mask[: len(name) + 1] == b"\xff" * (len(name) + 1)  # up to and with the NUL that ends the name
    return name.decode(errors="replace") if exact else name.decode(errors="replace").removesuffix("+") + "+"


def _matches(data: bytes) -> Iterator[tuple[str, bytes]]:
    offset = 0
    while offset < len(data):
        size, name, _ = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size or offset + size > len(data):
            raise struct.error("a match goes past its end")
        yield _name(name), data[offset + _HEADER.size : offset + size]
        offset += size


def _target(data: bytes) -> str:
    _, name, _ = _HEADER.unpack_from(data)
    if name[0]:
        return _name(name)
    (verdict,) = _VERDICT.unpack_from(data, _HEADER.size)
    return {_DROP: "DROP", _ACCEPT: "ACCEPT"}.get(verdict, "")


def _name(field: bytes) -> str:
    return field.split(b"\0")[0].decode(errors="replace")
