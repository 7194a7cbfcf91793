"""libnftables by ctypes: whole transactions of JSON commands, and the objects that a listing finds.

The binding is ours because the one that distributions package is invisible inside a virtual environment, and PyPI has
none. A context's netlink socket is opened with it, and so stays in the namespace of the thread that made it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import socket
import threading
from collections.abc import Sequence
from typing import Any

from fairway.net.model.errors import FairwayError, KernelError

Json = dict[str, Any]
"""A command, or a listed object, of libnftables-json(5)."""

_LIBRARY = "libnftables.so.1"
_OUTPUT_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON: nftables/libnftables.h
_OUTPUT_TERSE = 1 << 11  # NFT_CTX_OUTPUT_TERSE
_NETLINK_NETFILTER = 12  # linux/netlink.h

# The library keeps its cache of interfaces in globals, so no two contexts may run at once.
_running = threading.Lock()


class Nft:
    """A context of libnftables, in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._library = _load()
        _check_socket()
        self._context: int | None = self._library.nft_ctx_new(0)
        if not self._context:
            raise KernelError("libnftables gives no context", errno.ENOMEM)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, commands: Sequence[Json], *, terse: bool = False) -> list[Json]:
        """Do all `commands` in one transaction, or none; what they list, in order. KernelError: the library's words.

        With `terse`, sets are listed without their elements.
        """
        if not commands:
            return []
        if self._context is None:
            raise ValueError("this context is closed")
        request = json.dumps({"nftables": commands}).encode()
        flags = _OUTPUT_JSON | (_OUTPUT_TERSE if terse else 0)
        with _running:
            self._library.nft_ctx_output_set_flags(self._context, flags)
            failed = self._library.nft_run_cmd_from_buffer(self._context, request)
            output = self._library.nft_ctx_get_output_buffer(self._context)
            words = self._library.nft_ctx_get_error_buffer(self._context)
        if failed:
            raise _error_of(words.decode(errors="replace"))
        return _objects(output.decode(errors="replace"))

    def close(self) -> None:
        """End the context and its socket; twice does no harm."""
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None


@functools.cache
def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise FairwayError(f"{_LIBRARY} is not installed", mend="apt-get install libnftables1") from None
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    library.nft_ctx_new.argtypes, library.nft_ctx_new.restype = [ctypes.c_uint32], pointer
    library.nft_ctx_free.argtypes, library.nft_ctx_free.restype = [pointer], None
    library.nft_ctx_output_set_flags.argtypes = [pointer, ctypes.c_uint]
    library.nft_ctx_buffer_output.argtypes = [pointer]
    library.nft_ctx_buffer_error.argtypes = [pointer]
    library.nft_run_cmd_from_buffer.argtypes = [pointer, text]
    library.nft_ctx_get_output_buffer.argtypes, library.nft_ctx_get_output_buffer.restype = [pointer], text
    library.nft_ctx_get_error_buffer.argtypes, library.nft_ctx_get_error_buffer.restype = [pointer], text
    return library


def _check_socket() -> None:
    """Fail if no socket is to be had: libnftables would end the whole process."""
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER).close()
    except OSError as error:
        raise KernelError(f"nftables: {error.strerror}", error.errno or 0) from None


def _objects(output: str) -> list[Json]:
    """The listed objects of every document in `output`: one document for each command that lists."""
    found: list[Json] = []
    decoder = json.JSONDecoder()
    output = output.strip()
    position = 0
    while position < len(output):
        document, position = decoder.raw_decode(output, position)
        found += [item for item in document["nftables"] if "metainfo" not in item]
        while position < len(output) and output[position].isspace():
            position += 1
    return found


@functools.cache
def _error_numbers() -> dict[str, int]:
    return {os.strerror(number): number for number in errno.errorcode}


def _error_of(words: str) -> KernelError:
    """What the library said, on one line; its errno is known by strerror's words, the only form it is given in."""
    said = [line.split("Error: ", 1)[1] for line in words.splitlines() if "Error: " in line]
    message = "; ".join(dict.fromkeys(said)) or words.strip() or "no reason given"
    reasons = (line.partition(";")[0].rpartition(": ")[2].strip() for line in said)
    number = next((_error_numbers()[reason] for reason in reasons if reason in _error_numbers()), 0)
    mend = "run it as root (CAP_NET_ADMIN)" if number == errno.EPERM else ""
    return KernelError(f"nftables: {message}", number, mend=mend)
