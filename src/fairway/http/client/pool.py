"""Connections by where they lead: one for each target, shared by its requests, replaced when it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from fairway.aio import http3
from fairway.aio.signal import Signal
from fairway.http.client.limits import IDLE_EXPIRY_S, MAX_CONNECTIONS


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection leads: host and UDP port, and the name that the server must prove to have."""

    host: str
    port: int
    name: str


Dial = Callable[[Target], http3.connect]
"""Makes what opens a connection; the TLS settings are in it, so a pool has one set of them."""


class _Member:
    """One connection of a pool, while it is dialled, used, idle, or left by those who still use it."""

    def __init__(self, dialer: http3.connect) -> None:
        self.connection: http3.ClientConnection | None = None
        self.users = 0
        self.requests = 0
        """Leases that were given on it so far."""
        self.idle_timer: asyncio.TimerHandle | None = None
        self.suspect = False
        """True once the server left a request without any answer, not even to its packets."""
        self._dialer = dialer
        self._dialing: asyncio.Task[http3.ClientConnection] | None = None

    @property
    def serviceable(self) -> bool:
        """False once a new connection is needed."""
        if self.connection is not None:
            return self.connection.usable and not self.suspect
        return self._dialing is None or not self._dialing.done()

    async def ready(self) -> http3.ClientConnection:
        """The connection, dialled once for all who wait; given up when none of them waits any more."""
        if self.connection is None:
            if self._dialing is None:
                self._dialing = asyncio.get_running_loop().create_task(self._dial())
            await asyncio.shield(self._dialing)
        assert self.connection is not None
        return self.connection

    async def _dial(self) -> http3.ClientConnection:
        self.connection = await self._dialer
        return self.connection

    async def close(self) -> None:
        """End the connection, or its handshake."""
        if self.idle_timer is not None:
            self.idle_timer.cancel()
        if self._dialing is not None and not self._dialing.done():
            self._dialing.cancel()
            await asyncio.wait([self._dialing])
        if self._dialing is not None and not self._dialing.cancelled():
            self._dialing.exception()  # who waited has been told
        await self._dialer.aclose()


class Lease:
    """The right to use a connection for one request; `release` it."""

    __slots__ = ("_member", "_pool", "connection", "reused")

    def __init__(self, pool: Pool, member: _Member, connection: http3.ClientConnection) -> None:
        self._pool = pool
        self._member: _Member | None = member
        self.connection = connection
        self.reused = member.requests > 0
        """True if there was a request on the connection before."""
        member.requests += 1

    def suspect(self) -> None:
        """The server seems to be gone, without a word: nobody else is to wait for it."""
        if self._member is not None:
            self._member.suspect = True

    def release(self) -> None:
        """The request is over."""
        member, self._member = self._member, None
        if member is not None:
            self._pool.released(member)


class Pool:
    """At most `max_connections`; those without requests end after `idle_expiry_s`."""

    def __init__(
        self, dial: Dial, *, max_connections: int = MAX_CONNECTIONS, idle_expiry_s: float = IDLE_EXPIRY_S
    ) -> None:
        if max_connections < 1:
            raise ValueError("a pool needs room for a connection")
        self._dial = dial
        self._max = max_connections
        self._idle_expiry_s = idle_expiry_s
        self._members: dict[Target, _Member] = {}
        self._leaving: set[_Member] = set()
        """Those that take no more requests and have some that are not over."""
        self._closing: set[asyncio.Task[None]] = set()
        self._freed = Signal()

    def __len__(self) -> int:
        return len(self._members) + len(self._leaving)

    def has(self, target: Target) -> bool:
        """True if there is a connection that could be used at once."""
        member = self._members.get(target)
        return member is not None and member.connection is not None and member.serviceable

    async def acquire(self, target: Target) -> Lease:
        """A lease of the target's connection; waits while the pool is full and all its connections are in use.

        Raises what dialling raises: `OSError`, `ConnectionClosed`, `TimeoutError`.
        """
        member = await self._member(target)
        member.users += 1
        try:
            connection = await member.ready()
        except BaseException:
            self.released(member)
            raise
        return Lease(self, member, connection)

    async def _member(self, target: Target) -> _Member:
        while True:
            member = self._members.get(target)
            if member is not None:
                if member.serviceable:
                    if member.idle_timer is not None:
                        member.idle_timer.cancel()
                        member.idle_timer = None
                    return member
                self._retire(target, member)
            if len(self) < self._max or self._close_one_idle():
                member = self._members[target] = _Member(self._dial(target))
                return member
            await self._freed.wait()

    def _retire(self, target: Target, member: _Member) -> None:
        del self._members[target]
        if member.users:
            self._leaving.add(member)
        else:
            self._end(member)

    def _close_one_idle(self) -> bool:
        for target, member in self._members.items():
            if not member.users:
                self._retire(target, member)
                return True
        return False

    def released(self, member: _Member) -> None:
        """One request less; for leases."""
        member.users -= 1
        if member.users:
            return
        target = next((target for target, known in self._members.items() if known is member), None)
        if target is None:
            self._leaving.discard(member)
            self._end(member)
        elif member.connection is None or not member.serviceable:
            self._retire(target, member)
        else:
            self._members[target] = self._members.pop(target)  # the longest idle one stands first
            member.idle_timer = asyncio.get_running_loop().call_later(self._idle_expiry_s, self._expire, target, member)
        self._freed.fire()

    def _expire(self, target: Target, member: _Member) -> None:
        if not member.users and self._members.get(target) is member:
            self._retire(target, member)
            self._freed.fire()

    def _end(self, member: _Member) -> None:
        task = asyncio.get_running_loop().create_task(member.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """End all connections, whatever goes on in them."""
        members = [*self._members.values(), *self._leaving]
        self._members.clear()
        self._leaving.clear()
        for member in members:
            self._end(member)
        while self._closing:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*self._closing)
