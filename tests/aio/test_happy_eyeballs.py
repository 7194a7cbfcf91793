"""Several addresses of one name: the order, the race, and who is left over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fairway.aio import ConnectionClosed, QuicConnection, connect, serve
from fairway.aio.happy_eyeballs import MAX_ADDRESSES, Address, interleave, race
from fairway.tls import self_signed_identity

IDENTITY = self_signed_identity(["localhost"])


def address(host: str, port: int = 443) -> Address:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return (family, socket.SOCK_DGRAM, 17, "", (host, port))


def hosts(addresses: list[Address]) -> list[str]:
    return [known[4][0] for known in addresses]


A, B, C = address("::1"), address("::2"), address("192.0.2.1")


def attempts(**outcomes: Any) -> Callable[[Address], Coroutine[Any, Any, str]]:
    """Attempts that end as said: with a text, with an exception, or when an event is set."""

    async def attempt(where: Address) -> str:
        outcome = outcomes[where[4][0].replace(":", "_").replace(".", "_")]
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            return str(where[4][0])
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    return attempt


def refuse(_: str) -> None:
    raise AssertionError("nothing was left over")


def test_families_take_turns_and_the_first_address_stays_first() -> None:
    found = [address(host) for host in ("::1", "::2", "::3", "192.0.2.1", "192.0.2.2")]
    assert hosts(interleave(found)) == ["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]


def test_an_address_is_tried_once_and_not_too_many_are() -> None:
    assert hosts(interleave([A, A, C, A])) == ["::1", "192.0.2.1"]
    assert len(interleave([address(f"192.0.2.{last}") for last in range(200)])) == MAX_ADDRESSES


def test_a_silent_address_delays_by_one_step_only() -> None:
    async def main() -> str:
        return await race([A, C], attempts(__1=asyncio.Event(), **{"192_0_2_1": "answer"}), refuse, delay_s=0.01)

    assert asyncio.run(main()) == "answer"


def test_the_first_address_wins_while_it_is_quick() -> None:
    async def main() -> str:
        return await race([A, C], attempts(__1="first", **{"192_0_2_1": "second"}), refuse, delay_s=60)

    assert asyncio.run(main()) == "first"


def test_a_failure_starts_the_next_attempt_at_once() -> None:
    async def main() -> str:
        outcomes = attempts(__1=OSError("no route"), **{"192_0_2_1": "answer"})
        return await race([A, C], outcomes, refuse, delay_s=3600)

    assert asyncio.run(main()) == "answer"


def test_if_all_fail_the_last_failure_is_told() -> None:
    async def main() -> str:
        outcomes = attempts(__1=OSError("no route"), **{"192_0_2_1": OSError("refused")})
        return await race([A, C], outcomes, refuse)

    with pytest.raises(OSError, match="refused"):
        asyncio.run(main())


def test_what_a_server_said_for_sure_ends_the_race() -> None:
    async def main() -> str:
        outcomes = attempts(__1=ValueError("untrusted"), **{"192_0_2_1": "answer"})
        return await race([A, C], outcomes, refuse, final=lambda error: isinstance(error, ValueError))

    with pytest.raises(ValueError, match="untrusted"):
        asyncio.run(main())


def test_two_that_win_at_once_leave_one_over() -> None:
    async def main() -> tuple[str, list[str]]:
        started: list[str] = []
        both = asyncio.Event()
        left: list[str] = []

        async def attempt(where: Address) -> str:
            started.append(where[4][0])
            if len(started) == 2:
                both.set()
            await both.wait()
            return str(where[4][0])

        return await race([A, B], attempt, left.append, delay_s=0.01), left

    winner, left = asyncio.run(main())
    assert (winner, left) == ("::1", ["::2"])


def test_no_address_is_an_error() -> None:
    with pytest.raises(OSError, match="no address"):
        asyncio.run(race([], attempts(), refuse))


def test_a_connection_is_made_to_the_address_that_answers() -> None:
    async def idle(connection: QuicConnection) -> None:
        await connection.wait_closed()

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.2", 0))

            async def resolve(host: str, port: int) -> list[Address]:
                assert host == "origin.example"
                return [address("127.0.0.2", silent.getsockname()[1]), address("127.0.0.1", port)]

            async with (
                serve(idle, "127.0.0.1", 0, alpn="x", identities=[IDENTITY], grace_s=0) as server,
                connect("origin.example", server.port, alpn="x", verify=False, resolve=resolve) as connection,
            ):
                assert connection.peer_address[0] == "127.0.0.1"
            first = silent.recv(2048)
            assert first[0] & 0xC0 == 0xC0  # it was asked first, with an Initial

    asyncio.run(main())


def test_nobody_at_any_address_is_one_error() -> None:
    async def main() -> None:
        async def resolve(host: str, port: int) -> list[Address]:
            return [address("127.0.0.1", 1), address("127.0.0.2", 1)]

        await connect("origin.example", 1, alpn="x", verify=False, resolve=resolve)

    with pytest.raises(ConnectionClosed, match="refused"):
        asyncio.run(main())
