"""An application starts once before its first request and stops after its last."""

from __future__ import annotations

import asyncio

import pytest
from asgi_serving import serving

from fairway.http.server.asgi import Lifespan, LifespanError, Receive, Scope, Send


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(sorted(scope["state"].items())).encode()})


def test_one_lifespan_stands_around_the_requests_of_all_versions_and_gives_them_copies_of_its_state() -> None:
    events: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
            for _ in range(2):
                message = await receive()
                events.append(message["type"])
                scope["state"]["a"] = 1
                await send({"type": message["type"] + ".complete"})
            return
        events.append(scope["http_version"])
        await hello(scope, receive, send)
        scope["state"]["b"] = 2

    async def main() -> None:
        async with serving(application, tcp=True) as served:
            for protocol in ("h3", "h2", "http/1.1", "h3"):
                assert (await served.ask(protocol)).body == b"[('a', 1)]"

    asyncio.run(main())
    assert events == ["lifespan.startup", "3", "2", "1.1", "3", "lifespan.shutdown"]


def test_an_application_without_a_lifespan_is_served() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(application) as served:
            assert (await served.ask("h3")).status == 200

    asyncio.run(main())


@pytest.mark.parametrize("when", ["startup", "shutdown"])
def test_an_application_that_says_it_failed_is_believed(when: str) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            failed = kind == f"lifespan.{when}"
            await send({"type": kind + (".failed" if failed else ".complete"), "message": "no database"})

    async def main() -> None:
        lifespan = Lifespan(application)
        if when == "shutdown":
            await lifespan.startup()
        with pytest.raises(LifespanError, match="no database"):
            await (lifespan.startup() if when == "startup" else lifespan.shutdown())
        if when == "startup":
            await lifespan.shutdown()

    asyncio.run(main())
