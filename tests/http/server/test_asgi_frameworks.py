"""FastAPI and Django run by HTTP/3, HTTP/2 and HTTP/1.1, as Starlette does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import django
import pytest
from asgi_serving import PROTOCOLS, ask_h3, serving
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from fastapi import BackgroundTasks, FastAPI, File, Form, Header, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from wsproto import ConnectionType
from wsproto.connection import Connection as WebSocketConnection
from wsproto.events import TextMessage

by_every_version = pytest.mark.parametrize("protocol", PROTOCOLS)


def upload_form(size: int) -> tuple[dict[str, str], bytes]:
    """Headers and body of a form with a note and a file."""
    form = (
        b'--xyz\r\ncontent-disposition: form-data; name="note"\r\n\r\nhello\r\n'
        b'--xyz\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    )
    return {"content-type": "multipart/form-data; boundary=xyz"}, form + bytes(size) + b"\r\n--xyz--\r\n"


class Item(BaseModel):
    name: str
    price: float


def fastapi_application() -> FastAPI:
    application = FastAPI()
    done = asyncio.Event()

    @application.post("/items/{number}")
    async def create(number: int, item: Item, x_token: Annotated[str, Header()]) -> dict[str, Any]:
        return {"number": number, "name": item.name, "twice": 2 * item.price, "token": x_token}

    @application.get("/blocking")
    def blocking() -> str:  # in a thread
        return "from a thread"

    @application.post("/upload")
    async def upload(file: Annotated[UploadFile, File()], note: Annotated[str, Form()]) -> dict[str, Any]:
        return {"name": file.filename, "size": len(await file.read()), "note": note}

    @application.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(20):
                yield b"%d," % number
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    @application.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        async def note() -> None:
            done.set()

        tasks.add_task(note)
        return "soon"

    @application.get("/done")
    async def is_done() -> str:
        await done.wait()
        return "done"

    @application.websocket("/ws")
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text.upper())

    return application


@by_every_version
class TestFastApi:
    def test_models_headers_and_paths_are_checked(self, protocol: str) -> None:
        async def main() -> None:
            async with serving(fastapi_application(), tcp=True) as served:
                body = json.dumps({"name": "tea", "price": 2.5}).encode()
                kind = {"content-type": "application/json", "x-token": "t"}
                answer = await served.ask(protocol, "/items/7", method="POST", headers=kind, body=body)
                assert json.loads(answer.body) == {"number": 7, "name": "tea", "twice": 5.0, "token": "t"}
                answer = await served.ask(protocol, "/items/seven", method="POST", headers=kind, body=b"{}")
                assert answer.status == 422
                assert (await served.ask(protocol, "/openapi.json")).status == 200

        asyncio.run(main())

    def test_threads_uploads_streams_and_background_tasks(self, protocol: str) -> None:
        async def main() -> None:
            async with serving(fastapi_application(), tcp=True) as served:
                assert (await served.ask(protocol, "/blocking")).body == b'"from a thread"'
                kind, form = upload_form(200_000)
                answer = await served.ask(protocol, "/upload", method="POST", headers=kind, body=form)
                assert json.loads(answer.body) == {"name": "a.bin", "size": 200_000, "note": "hello"}
                assert (await served.ask(protocol, "/stream")).body == b"".join(b"%d," % n for n in range(20))
                assert (await served.ask(protocol, "/later")).body == b'"soon"'
                assert (await served.ask(protocol, "/done")).body == b'"done"'

        asyncio.run(main())


def test_a_websocket_of_fastapi_over_http3() -> None:
    async def main() -> None:
        async with serving(fastapi_application()) as served, served.dial() as connection:
            await connection.wait_settings()
            stream = await connection.begin(
                [
                    (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"),
                    (b":authority", b"localhost"), (b":path", b"/ws"), (b"sec-websocket-version", b"13"),
                ]
            )  # fmt: skip
            await stream.wait_response()
            assert stream.status == 200
            socket = WebSocketConnection(ConnectionType.CLIENT)
            await stream.send(socket.send(TextMessage(data="hello")))
            socket.receive_data(await stream.receive())
            assert [event.data for event in socket.events() if isinstance(event, TextMessage)] == ["HELLO"]
            stream.abort()

    asyncio.run(main())


# Django


def show(request: HttpRequest) -> HttpResponse:
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "q": request.GET.get("q"),
            "secure": request.is_secure(),
            "host": request.get_host().partition(":")[0],
            "cookie": request.COOKIES.get("c"),
            "body": request.body.decode(),
        }
    )


async def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": file.size, "note": request.POST["note"]})  # type: ignore[union-attr]


async def stream(request: HttpRequest) -> HttpResponseBase:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(20):
            yield b"%d," % number
            await asyncio.sleep(0)

    return StreamingHttpResponse(parts())


def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("on purpose")


urlpatterns = [path("show/", show), path("upload/", upload), path("stream/", stream), path("fail/", fail)]


@pytest.fixture(scope="module")
def django_application() -> Any:
    if not django_settings.configured:
        django_settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for tests", DATABASES={}, LOGGING_CONFIG=None
        )
        django.setup()
    return get_asgi_application()


@by_every_version
class TestDjango:
    def test_a_request_looks_the_same(self, protocol: str, django_application: Any) -> None:
        async def main() -> None:
            async with serving(django_application, tcp=True) as served:
                answer = await served.ask(
                    protocol, "/show/?q=1", method="POST", headers={"cookie": "c=2"}, body=b"content"
                )
                assert answer.status == 200
                assert json.loads(answer.body) == {
                    "method": "POST",
                    "path": "/show/",
                    "q": "1",
                    "secure": True,
                    "host": "127.0.0.1" if protocol != "h3" else "localhost",
                    "cookie": "2",
                    "body": "content",
                }

        asyncio.run(main())

    def test_uploads_streams_and_failures(self, protocol: str, django_application: Any) -> None:
        async def main() -> None:
            async with serving(django_application, tcp=True) as served:
                kind, form = upload_form(3_000_000)
                answer = await served.ask(protocol, "/upload/", method="POST", headers=kind, body=form)
                assert json.loads(answer.body) == {"name": "a.bin", "size": 3_000_000, "note": "hello"}
                assert (await served.ask(protocol, "/stream/")).body == b"".join(b"%d," % n for n in range(20))
                assert (await served.ask(protocol, "/fail/")).status == 500
                assert (await served.ask(protocol, "/nowhere/")).status == 404

        asyncio.run(main())


def test_django_answers_many_at_once_on_one_connection(django_application: Any) -> None:
    async def main() -> None:
        async with serving(django_application) as served, served.dial() as connection:
            answers = await asyncio.gather(*(ask_h3(connection, f"/show/?q={number}") for number in range(50)))
            assert [json.loads(answer.body)["q"] for answer in answers] == [str(number) for number in range(50)]

    asyncio.run(main())
