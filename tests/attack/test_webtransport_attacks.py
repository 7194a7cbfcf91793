"""Attacks on WebTransport sessions and on request streams that stay unfinished, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "http3"))

from quic_attacker import bounded
from raw_peers import headers

from fairway.aio import QuicConfiguration, StreamReset, connect, http3
from fairway.http3 import H3Code, frames
from fairway.http3.capsules import CLOSE_SESSION, DATAGRAM, DRAIN_SESSION, Capsule, CapsuleReader
from fairway.http3.errors import MessageError
from fairway.http3.limits import MAX_CAPSULE, MAX_SESSIONS, MAX_WAITING_DATAGRAMS, MAX_WAITING_TUNNEL_STREAMS
from fairway.http3.session_flow import SessionFlow
from fairway.http3.webtransport import session_request
from fairway.tls import self_signed_identity
from fairway.wire import encode_varint

IDENTITY = self_signed_identity(["localhost"])
ASK = session_request(b"localhost", b"/wt", [])
UNKNOWN_CAPSULE = encode_varint(0x3FFF) + b"\0"

Handler = Callable[[http3.Request], Awaitable[None]]


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run it; nothing may be told to the loop's exception handler, and no task may be left."""
    told: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with asyncio.timeout(30):
            await main()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)
        gc.collect()

    asyncio.run(watched())
    assert not told


def living(kind: type) -> int:
    gc.collect()
    return sum(type(known) is kind for known in gc.get_objects())


@contextlib.asynccontextmanager
async def served(handler: Handler, window: int = 256 * 1024, **options: Any) -> AsyncIterator[http3.ClientConnection]:
    """A client of a server; `window` bounds what it lets the server send on a stream."""
    serve = http3.serve(handler, "127.0.0.1", 0, identities=[IDENTITY], webtransport=True, grace_s=1.0, **options)
    windows = QuicConfiguration(stream_window=window, stream_window_cap=window)
    async with serve as server:
        client = http3.connect(
            "127.0.0.1", server.port, server_name="localhost", verify=False, webtransport=True, configuration=windows
        )
        async with client as connection:
            await connection.wait_settings()
            yield connection


async def session_of(client: http3.ClientConnection) -> http3.ClientStream:
    """A session whose capsules the test writes."""
    stream = await client.begin(ASK)
    await stream.wait_response()
    return stream


def tunnel(client: http3.ClientConnection, session_id: int, content: bytes = b"", *, end: bool = False) -> int:
    """A stream that says that it is of a session."""
    stream_id = client.http.open_tunnel_stream(session_id)
    assert stream_id is not None
    client.core.write(stream_id, content, end=end)
    client.wake()
    return stream_id


class Outcome(http3.ClientStream):
    """Notes how a stream of the test ends."""

    def __init__(self, client: http3.ClientConnection, stream_id: int) -> None:
        super().__init__(client, stream_id)
        client.adopt(self)

    async def code(self) -> int:
        try:
            while await self.receive():
                pass
        except http3.RequestError as error:
            return error.code
        return -1


class Recorder:
    """A handler that keeps its sessions open until their end, and notes it."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[Any] = asyncio.Queue()

    async def __call__(self, request: http3.Request) -> None:
        session = request.accept_session()
        closed = await session.wait_closed()
        self.ended.put_nowait(closed)


class TestSessionsEnd:
    def test_a_handler_that_ends_without_closing_leaves_no_task(self) -> None:
        async def handler(request: http3.Request) -> None:
            request.accept_session()

        async def main() -> None:
            async with served(handler) as client:
                for _ in range(20):
                    session = await client.webtransport("localhost")
                    await session.wait_closed()

        run(main)

    def test_a_client_that_never_ends_its_half_leaves_no_task(self) -> None:
        async def handler(request: http3.Request) -> None:
            async with request.accept_session():
                pass

        async def main() -> None:
            async with served(handler) as client:
                for _ in range(3 * MAX_SESSIONS):  # the places of sessions are free again
                    stream = await session_of(client)
                    assert await Outcome(client, stream.stream_id).code() == -1

        run(main)

    @pytest.mark.parametrize("order", ["reset", "stop", "both", "connection"])
    def test_a_client_that_leaves_ends_the_session(self, order: str) -> None:
        recorder = Recorder()

        async def main() -> None:
            async with served(recorder) as client:
                stream = await session_of(client)
                tunnel(client, stream.stream_id, b"begun")
                if order in ("reset", "both"):
                    client.http.reset(stream.stream_id, H3Code.H3_REQUEST_CANCELLED)
                if order in ("stop", "both"):
                    client.http.stop_reading(stream.stream_id, H3Code.H3_REQUEST_CANCELLED)
                if order == "stop":
                    await stream.send(b"", end=True)
                client.wake()
                if order == "connection":
                    client.close()
                else:
                    closed = await recorder.ended.get()
                    assert closed.clean is (order == "stop")
                    assert closed.code == 0

        run(main)

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (Capsule(CLOSE_SESSION, b"\0\0\0\x07bye").encode(), 7),
            (Capsule(CLOSE_SESSION, b"\0\0\0\x07bye").encode() + b"more", 7),
            (Capsule(CLOSE_SESSION, b"\0\0\0\x07\xff").encode(), None),
            (Capsule(CLOSE_SESSION, b"\0\0").encode(), None),
            (Capsule(CLOSE_SESSION, b"\0\0\0\x07" + b"x" * 1025).encode(), None),
            (encode_varint(CLOSE_SESSION) + encode_varint(1 << 40), None),
            (Capsule(DRAIN_SESSION, b"x").encode(), None),
        ],
        ids=["open", "data after it", "no UTF-8", "no code", "long", "huge", "a drain with something in it"],
    )
    def test_a_close_capsule_ends_the_session_though_the_stream_stays_open(
        self, content: bytes, code: int | None
    ) -> None:
        recorder = Recorder()

        async def main() -> None:
            async with served(recorder) as client:
                stream = await session_of(client)
                await stream.send(content)
                closed = await recorder.ended.get()
                assert closed.code == (code or 0)
                assert closed.clean is (code is not None)
                ended = await Outcome(client, stream.stream_id).code()
                clean = code is not None and not content.endswith(b"more")
                assert ended == (-1 if clean else H3Code.H3_MESSAGE_ERROR)

        run(main)

    def test_an_end_within_a_capsule_is_no_clean_end(self) -> None:
        recorder = Recorder()

        async def main() -> None:
            async with served(recorder) as client:
                stream = await session_of(client)
                await stream.send(encode_varint(CLOSE_SESSION), end=True)
                assert not (await recorder.ended.get()).clean
                assert await Outcome(client, stream.stream_id).code() == H3Code.H3_MESSAGE_ERROR

        run(main)

    def test_more_sessions_at_once_than_were_offered_are_rejected(self) -> None:
        recorder = Recorder()

        async def main() -> None:
            async with served(recorder) as client:
                for _ in range(MAX_SESSIONS):
                    await session_of(client)
                with pytest.raises(http3.RequestError) as raised:
                    await session_of(client)
                assert raised.value.code == H3Code.H3_REQUEST_REJECTED

        run(main)


class TestStreams:
    def test_streams_of_a_session_that_is_over_are_refused_and_take_no_place(self) -> None:
        recorder = Recorder()

        async def main() -> None:
            async with served(recorder) as client:
                over = await session_of(client)
                await over.send(b"", end=True)
                await recorder.ended.get()
                for _ in range(2 * MAX_WAITING_TUNNEL_STREAMS):
                    stream_id = tunnel(client, over.stream_id, b"late")
                    assert await Outcome(client, stream_id).code() == H3Code.WT_SESSION_GONE

        run(main)

    def test_early_streams_that_were_reset_take_no_place(self) -> None:
        async def handler(request: http3.Request) -> None:
            if not request.wants_session:
                request.respond([(b":status", b"200")], end=True)
                return
            async with request.accept_session() as session:
                stream = await session.accept_stream()
                await stream.send(await stream.receive_all(), end=True)
                await session.wait_closed()

        async def main() -> None:
            async with served(handler) as client:
                coming = 4 * (2 * 2 * MAX_WAITING_TUNNEL_STREAMS + 1)
                for _ in range(2 * MAX_WAITING_TUNNEL_STREAMS):
                    stream_id = tunnel(client, coming, b"early")
                    ended = Outcome(client, stream_id)
                    await (await client.request("GET", "localhost")).receive_all()  # it has arrived
                    client.http.reset(stream_id, H3Code.H3_REQUEST_CANCELLED)
                    client.wake()
                    assert await ended.code() == H3Code.WT_BUFFERED_STREAM_REJECTED
                early = Outcome(client, tunnel(client, coming, b"first", end=True))
                stream = await session_of(client)
                assert stream.stream_id == coming
                assert await early.receive_all() == b"first"

        run(main)

    def test_streams_whose_session_never_comes_are_bounded_and_given_up_in_time(self) -> None:
        async def main() -> None:
            async with served(Recorder(), request_timeout_s=0.2) as client:
                waiting = [
                    Outcome(client, tunnel(client, 4000, b"early")) for _ in range(MAX_WAITING_TUNNEL_STREAMS + 8)
                ]
                codes = [await stream.code() for stream in waiting]
                assert codes == [H3Code.WT_BUFFERED_STREAM_REJECTED] * len(waiting)

        run(main)

    def test_streams_whose_session_has_not_come_are_refused_at_once_past_a_number(self) -> None:
        async def handler(request: http3.Request) -> None:
            request.respond([(b":status", b"200")], end=True)

        async def main() -> None:
            async with served(handler, request_timeout_s=None) as client:
                waiting = [
                    asyncio.create_task(Outcome(client, tunnel(client, 4000, b"early")).code())
                    for _ in range(MAX_WAITING_TUNNEL_STREAMS + 8)
                ]
                async with asyncio.timeout(20):
                    for refused in itertools.islice(asyncio.as_completed(waiting), 8):
                        assert await refused == H3Code.WT_BUFFERED_STREAM_REJECTED
                await client.request("GET", "localhost")  # all that was on the way has arrived
                assert sum(each.done() for each in waiting) == 8
                for each in waiting:
                    each.cancel()

        run(main)

    def test_streams_of_sessions_without_number_that_nobody_asks_for_are_counted_for_a_few(self) -> None:
        async def handler(request: http3.Request) -> None:
            if request.wants_session:
                await request.accept_session().wait_closed()
            else:
                request.respond([(b":status", b"200")], end=True)

        async def main() -> None:
            async with served(handler) as client:
                session = await session_of(client)
                for session_id in range(40_000, 40_800, 4):
                    while (stream_id := client.http.open_tunnel_stream(session_id)) is None:
                        client.wake()
                        await client.wait(client.available)
                    client.http.reset(stream_id, H3Code.H3_REQUEST_CANCELLED)
                    client.wake()
                await (await client.request("GET", "localhost")).receive_all()  # all of it has arrived
                assert living(SessionFlow) <= 2 + 2 * MAX_SESSIONS
                tunnel(client, session.stream_id, b"in time")  # the session that stands has its own place

        run(main)

    def test_a_session_of_many_streams_remembers_none_that_is_over(self) -> None:
        async def handler(request: http3.Request) -> None:
            async with request.accept_session() as session:
                async for stream in session.incoming_streams():
                    with contextlib.suppress(http3.RequestError):
                        await stream.send(await stream.receive_all(), end=True)

        async def main() -> None:
            async with served(handler) as client, await client.webtransport("localhost") as session:
                for number in range(300):
                    stream = await session.open_stream()
                    await stream.send(b"x", end=True)
                    if number % 3:
                        assert await stream.receive_all() == b"x"
                    else:
                        stream.stop_reading(5)
                    given_up = await session.open_stream()
                    await given_up.send(b"x")
                    given_up.reset(5)
                    given_up.stop_reading(5)
                last = await session.open_stream()
                await last.send(b"", end=True)
                await last.receive_all()
                del stream, given_up, last
                assert living(http3.TunnelStream) < 20

        run(main)

    def test_streams_that_nobody_accepts_are_bounded(self) -> None:
        async def main() -> None:
            async with served(Recorder()) as client:
                session, opened = (await session_of(client)).stream_id, client.http.open_tunnel_stream
                with bounded(steps=5_000_000, megabytes=3.0):
                    for _ in range(1000):
                        while (stream_id := opened(session, unidirectional=True)) is None:
                            client.wake()
                            await client.wait(client.available)
                        client.core.write(stream_id, b"x" * 100)
                        client.http.reset(stream_id, H3Code.H3_REQUEST_CANCELLED)
                        client.wake()
                assert living(http3.TunnelStream) <= 256

        run(main)

    def test_the_signal_of_a_session_stream_within_a_request_ends_the_connection(self) -> None:
        async def main() -> None:
            async with served(Recorder()) as client:
                stream_id = client.core.open_stream()
                assert stream_id is not None
                client.core.write(stream_id, frames.encode(0x21, b"") + encode_varint(0x41) + b"\0")
                client.wake()
                assert (await client.wait_closed()).code == H3Code.H3_FRAME_ERROR

        run(main)


class TestDatagrams:
    def test_datagrams_before_the_session_is_granted_are_kept_up_to_a_bound(self) -> None:
        async def main() -> None:
            sent, counted = asyncio.Event(), asyncio.get_running_loop().create_future()

            async def handler(request: http3.Request) -> None:
                await sent.wait()
                while request.connection.statistics()["datagrams_received"] < 2 * MAX_WAITING_DATAGRAMS:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                async with request.accept_session() as session:
                    got = [await session.receive_datagram() for _ in range(MAX_WAITING_DATAGRAMS)]
                    session.send_datagram(b"done")
                    await session.wait_closed()
                    counted.set_result(got)

            async with served(handler) as client:
                stream = await client.begin(ASK)
                for number in range(2 * MAX_WAITING_DATAGRAMS):
                    client.http.send_datagram(stream.stream_id, b"%d" % number)
                    client.wake()
                sent.set()
                await stream.wait_response()
                await stream.send(b"", end=True)
                kept = await counted
                assert kept == [b"%d" % n for n in range(MAX_WAITING_DATAGRAMS, 2 * MAX_WAITING_DATAGRAMS)]

        run(main)

    def test_datagrams_of_no_session_are_dropped_and_end_the_request_that_they_name(self) -> None:
        async def handler(request: http3.Request) -> None:
            await request.receive_all()
            request.respond([(b":status", b"200")], end=True)

        async def main() -> None:
            async with served(handler) as client:
                head = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
                named = await client.begin(head)
                honest = await client.begin(head)
                with bounded(steps=20_000_000, megabytes=3.0):
                    for _ in range(2000):
                        for stream_id in (named.stream_id, 400):
                            client.core.send_datagram(encode_varint(stream_id >> 2) + bytes(1000))
                        client.wake()
                        await asyncio.sleep(0)
                with pytest.raises(http3.RequestError, match="H3_DATAGRAM_ERROR"):
                    await named.wait_response()
                await honest.send(b"", end=True)
                await honest.wait_response()

        run(main)


class TestCapsules:
    def test_small_capsules_without_number_cost_what_they_send(self) -> None:
        content = UNKNOWN_CAPSULE * 200_000
        with bounded(steps=10_000_000, at_once=0.2):
            assert CapsuleReader().feed(content) == []

    def test_a_capsule_in_crumbs_is_not_kept_beyond_its_bound(self) -> None:
        reader = CapsuleReader()
        with bounded(steps=25_000, at_once=1.0):
            for _ in range(200):
                reader.feed(encode_varint(0x3FFF) + encode_varint(100_000) + bytes(100_000))
        assert reader.feed(encode_varint(CLOSE_SESSION) + encode_varint(MAX_CAPSULE) + bytes(MAX_CAPSULE))
        large = Capsule(DATAGRAM, bytes(MAX_CAPSULE + 1)).encode()
        assert reader.feed(large + Capsule(DATAGRAM, b"x").encode()) == [Capsule(DATAGRAM, b"x")]
        with pytest.raises(MessageError, match="a capsule of 16385 bytes") as raised:
            reader.feed(encode_varint(CLOSE_SESSION) + encode_varint(MAX_CAPSULE + 1))
        assert raised.value.code is H3Code.H3_MESSAGE_ERROR


HALVES = {
    "nothing": b"",
    "half of a frame's type": b"\x40",
    "half of a HEADERS frame": frames.encode_header(frames.HEADERS, 5000) + bytes(100),
    "an unknown frame without end": frames.encode_header(0x21, 1 << 40) + bytes(100),
    "fields that wait for the QPACK encoder": frames.encode(frames.HEADERS, b"\x02\x00\x80"),
}


class TestSlowRequests:
    def test_a_stream_on_which_no_whole_request_comes_is_given_up_in_time_and_others_are_served(self) -> None:
        async def handler(request: http3.Request) -> None:
            request.respond([(b":status", b"200")], end=True)

        async def main() -> None:
            async with (
                http3.serve(handler, "127.0.0.1", 0, identities=[IDENTITY], request_timeout_s=0.2) as server,
                connect("127.0.0.1", server.port, alpn="h3", server_name="localhost", verify=False) as bare,
            ):
                control = await bare.open_stream(unidirectional=True)
                await control.send(encode_varint(frames.CONTROL_STREAM) + frames.encode(frames.SETTINGS, b""))
                slow = [await bare.open_stream() for _ in HALVES]
                for stream, half in zip(slow, HALVES.values(), strict=True):
                    await stream.send(half)
                for stream in slow:
                    with pytest.raises(StreamReset) as raised:
                        await stream.receive()
                    assert raised.value.code == H3Code.H3_REQUEST_INCOMPLETE
                honest = await bare.open_stream()
                request = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
                await honest.send(headers(request), end=True)
                assert await honest.receive_all()

        run(main)

    def test_who_stops_an_answer_that_was_ended_leaves_nothing_to_wait_for(self) -> None:
        async def main() -> None:
            waited = asyncio.get_running_loop().create_future()

            async def handler(request: http3.Request) -> None:
                if request.field(b":path") == b"/wait":
                    await asyncio.wait_for(request.connection.wait_acknowledged(), 10)
                    waited.set_result(None)
                    return
                request.respond([(b":status", b"200")])
                await request.send(bytes(200_000), end=True)

            async with served(handler, window=10_000) as client:
                stream = await client.request("GET", "localhost")
                stream.stop_reading()
                with contextlib.suppress(http3.RequestError):
                    await client.request("GET", "localhost", "/wait")
                await waited

        run(main)
