"""Happy eyeballs (RFC 8305): of a host's several addresses, the first that answers is used."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import chain, zip_longest
from typing import Any, TypeVar

ATTEMPT_DELAY_S = 0.25
"""How long one attempt is alone before the next address is tried too (section 5)."""

MAX_ADDRESSES = 16
"""Addresses of one name that are tried: a name server must not make us knock on hundreds of doors."""

Address = tuple[int, int, int, str, Any]
"""What `socket.getaddrinfo` gives for one address: family, type, protocol, canonical name, socket address."""

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Finds the addresses of a host, the preferred one first. `OSError` if there are none."""

Won = TypeVar("Won")


async def resolve(host: str, port: int) -> list[Address]:
    """What `getaddrinfo` knows, in its order, without holding up the loop; an address is not worth a thread."""
    with contextlib.suppress(OSError):  # a plain one is not even worth the question
        socket.inet_pton(socket.AF_INET, host)
        return [(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP, "", (host, port))]
    with contextlib.suppress(socket.gaierror):
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST))
    return list(await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM))


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """The same addresses with families by turns, the family of the first one first (section 4)."""
    if len(addresses) == 1:
        return list(addresses)
    families: dict[int, list[Address]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(address[0], []).append(address)
    turns = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in turns if address is not None][:MAX_ADDRESSES]


async def race(
    addresses: Sequence[Address],
    attempt: Callable[[Address], Coroutine[Any, Any, Won]],
    discard: Callable[[Won], None],
    *,
    final: Callable[[Exception], bool] = lambda _: False,
    delay_s: float = ATTEMPT_DELAY_S,
) -> Won:
    """What the first successful `attempt` gives; the others are cancelled, a second success is handed to `discard`.

    The next attempt begins after `delay_s`, or at once when one fails. If all fail, the last failure is raised; one
    that is `final` ends the race: what a server said for sure, no other address will say differently.
    """
    if not addresses:
        raise OSError("the name has no address")
    if len(addresses) == 1:
        return await attempt(addresses[0])
    runners: list[asyncio.Task[Won]] = []
    try:
        return await _race(addresses, attempt, final, delay_s, runners)
    finally:
        await _end(runners, discard)


async def _race(
    addresses: Sequence[Address],
    attempt: Callable[[Address], Coroutine[Any, Any, Won]],
    final: Callable[[Exception], bool],
    delay_s: float,
    runners: list[asyncio.Task[Won]],
) -> Won:
    failure: Exception | None = None
    waiting = list(reversed(addresses))
    running: set[asyncio.Task[Won]] = set()
    while waiting or running:
        if waiting:
            task = asyncio.get_running_loop().create_task(attempt(waiting.pop()))
            runners.append(task)
            running.add(task)
        done, running = await asyncio.wait(
            running, timeout=delay_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (runner for runner in runners if runner in done):
            error = task.exception()
            if error is None:
                runners.remove(task)
                return task.result()
            if not isinstance(error, Exception) or final(error):
                raise error
            failure = error
    assert failure is not None
    raise failure


async def _end(runners: Sequence[asyncio.Task[Won]], discard: Callable[[Won], None]) -> None:
    """Cancel what still runs, and give up what won as well, in the same turn of the loop."""
    for task in runners:
        task.cancel()
    for outcome in await asyncio.gather(*runners, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            discard(outcome)
