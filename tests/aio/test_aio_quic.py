"""The asyncio layer over real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fairway.aio import (
    ClosedBy,
    ConnectionClosed,
    QuicConfiguration,
    QuicConnection,
    Server,
    Stream,
    StreamReset,
    connect,
    serve,
)
from fairway.aio.udp import UdpSocket, bind
from fairway.quic.limits import MAX_DATAGRAMS_KEPT
from fairway.tls import Identity, self_signed

CERTIFICATE, KEY = self_signed(["localhost", "127.0.0.1", "::1"])
IDENTITY = Identity((CERTIFICATE.public_bytes(serialization.Encoding.DER),), KEY)
LOOPBACK = QuicConfiguration(udp_payload=1452)
DATAGRAMS = replace(LOOPBACK, max_datagram_frame_size=65535)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def ask(connection: QuicConnection, data: bytes) -> bytes:
    stream = await connection.open_stream()
    await stream.send(data, end=True)
    return await stream.receive_all()


async def echo(connection: QuicConnection) -> None:
    async def one(stream: Stream) -> None:
        while data := await stream.receive():
            await stream.send(data)
        stream.finish()

    async with asyncio.TaskGroup() as tasks:
        async for stream in connection.incoming_streams():
            if not stream.unidirectional:
                tasks.create_task(one(stream))


def server(
    handler: Callable[[QuicConnection], Awaitable[None]] = echo, host: str = "127.0.0.1", **more: object
) -> serve:
    arguments: dict[str, object] = {"alpn": "test", "identities": [IDENTITY], "configuration": LOOPBACK, "grace_s": 0}
    return serve(handler, host, 0, **(arguments | more))  # type: ignore[arg-type]


def client(running: Server, host: str = "127.0.0.1", **more: object) -> connect:
    arguments: dict[str, object] = {
        "alpn": "test",
        "server_name": "localhost",
        "ca": [CERTIFICATE],
        "configuration": LOOPBACK,
    }
    return connect(host, running.port, **(arguments | more))  # type: ignore[arg-type]


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """What goes in the block has been let go by everybody: no garbage collector takes it away."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class TestOptions:
    def test_a_misspelled_option_is_an_error_that_names_the_right_one(self) -> None:
        with pytest.raises(TypeError, match="'verfy': did you mean 'verify'"):
            connect("localhost", 1, alpn="t", verfy=False)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="'client_cas': did you mean 'client_ca'"):
            serve(echo, "localhost", 1, alpn="t", identities=[IDENTITY], client_cas=())  # type: ignore[call-arg]

    def test_a_server_needs_an_identity(self) -> None:
        with pytest.raises(TypeError, match="'identities' is missing"):
            serve(echo, "localhost", 1, alpn="t")  # type: ignore[call-arg]


class TestConnections:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_what_is_sent_comes_back_over_both_kinds_of_addresses(self, host: str) -> None:
        async def scenario() -> None:
            async with server(host=host) as running, client(running, host) as connection:
                data = os.urandom(3_000_000)
                stream = await connection.open_stream()
                sending = asyncio.create_task(stream.send(data, end=True))
                assert await stream.receive_all() == data
                await sending
                assert connection.alpn == "test"
                assert connection.peer_certificates == (IDENTITY.chain[0],)

        run(scenario)

    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The lengths of what clients gave to their sockets."""
        lengths: list[int] = []

        class Counting(UdpSocket):
            def send(self, data: bytes, segment: int, address: object, mark: int = 0) -> int:
                lengths.append(len(data))
                return super().send(data, segment, address, mark)

        monkeypatch.setattr("fairway.aio.client.UdpSocket", Counting)
        return lengths

    def test_what_is_sent_at_once_goes_with_the_end_of_the_handshake(self, sent: list[int]) -> None:
        async def scenario() -> None:
            async with server() as running, client(running) as connection:
                stream = await connection.open_stream()
                await stream.send(b"at once", end=True)
                await asyncio.sleep(0)
                assert len(sent) == 2  # the ClientHello; the Finished and the stream
                assert await stream.receive_all() == b"at once"

        run(scenario)

    def test_who_leaves_at_once_ends_the_handshake_first(self, sent: list[int]) -> None:
        async def scenario() -> None:
            async with server() as running:
                async with client(running):
                    pass
                assert len(sent) == 3  # the ClientHello; the Finished; the end

        run(scenario)

    def test_a_certificate_that_is_not_trusted_is_refused(self) -> None:
        async def scenario() -> None:
            async with server() as running:
                with pytest.raises(ConnectionClosed, match="CRYPTO_ERROR"):
                    await client(running, ca=None)
                with pytest.raises(ConnectionClosed, match="CRYPTO_ERROR"):
                    await client(running, server_name="example.com")

        run(scenario)

    def test_a_client_shows_its_certificate(self) -> None:
        async def scenario() -> None:
            async with server(client_ca=[CERTIFICATE], require_client_certificate=True) as running:
                async with client(running, identity=IDENTITY) as connection:
                    stream = await connection.open_stream()
                    await stream.send(b"me", end=True)
                    assert await stream.receive_all() == b"me"
                nobody = await client(running)
                closing = await nobody.wait_closed()
                assert (closing.by, closing.code) == (ClosedBy.PEER, 0x100 + 116)  # certificate_required

        run(scenario)

    def test_nobody_there_is_said_at_once(self) -> None:
        async def scenario() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
                unused.bind(("127.0.0.1", 0))
                port = unused.getsockname()[1]
            with pytest.raises(ConnectionClosed, match="refused"):
                await connect("127.0.0.1", port, alpn="test", verify=False)

        run(scenario)

    def test_silence_is_a_timeout(self) -> None:
        async def scenario() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
                silent.bind(("127.0.0.1", 0))
                with pytest.raises(TimeoutError):
                    await connect("127.0.0.1", silent.getsockname()[1], alpn="test", verify=False, timeout=0.2)

        run(scenario)

    def test_errors_say_who_closed_with_which_code_and_why(self) -> None:
        async def refuse(connection: QuicConnection) -> None:
            await connection.accept_stream()
            connection.close(77, "not today")

        async def scenario() -> None:
            async with server(refuse) as running, client(running) as connection:
                stream = await connection.open_stream()
                await stream.send(b"hello")
                with pytest.raises(ConnectionClosed) as raised:
                    await stream.receive()
                closing = raised.value.closing
                assert (closing.by, closing.code, closing.reason) == (ClosedBy.PEER, 77, "not today")
                assert str(closing) == "closed by the peer with application error 0x4d: not today"
                with pytest.raises(ConnectionClosed):
                    await stream.send(b"more")
                with pytest.raises(ConnectionClosed):
                    await connection.open_stream()

        run(scenario)

    def test_a_handler_that_fails_closes_with_an_error(self) -> None:
        async def fail(connection: QuicConnection) -> None:
            raise RuntimeError("a bug")

        async def scenario() -> None:
            reported: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
            async with server(fail) as running:
                connection = await client(running)
                closing = await connection.wait_closed()
                assert closing.code == 1
                assert reported

        run(scenario)


class TestBackpressure:
    def test_a_sender_waits_for_a_reader_that_does_not_read(self) -> None:
        async def hold(connection: QuicConnection) -> None:
            await connection.wait_closed()

        async def scenario() -> None:
            small = QuicConfiguration(stream_window=100_000, connection_window=200_000, send_buffer=100_000)
            async with server(hold, configuration=small) as running, client(running, configuration=small) as connection:
                stream = await connection.open_stream()
                sent = 0
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        while True:
                            await stream.send(bytes(10_000))
                            sent += 10_000
                assert 100_000 <= sent <= 220_000

        run(scenario)

    def test_a_stream_is_opened_when_another_one_has_ended(self) -> None:
        async def scenario() -> None:
            one = QuicConfiguration(max_streams_bidi=1)
            async with server(configuration=one) as running, client(running) as connection:
                first = await connection.open_stream()
                opening = asyncio.create_task(connection.open_stream())
                await asyncio.sleep(0.05)
                assert not opening.done()
                await first.send(b"x", end=True)
                assert await first.receive_all() == b"x"
                second = await opening
                await second.send(b"y", end=True)
                assert await second.receive_all() == b"y"

        run(scenario)


class TestStreams:
    def test_what_was_committed_is_read_before_the_reset_is_raised(self) -> None:
        async def scenario() -> None:
            read: asyncio.Future[tuple[list[bytes], int]] = asyncio.get_running_loop().create_future()

            async def handler(connection: QuicConnection) -> None:
                async for stream in connection.incoming_streams():
                    await asyncio.sleep(0.1)  # reset long before it is read
                    parts: list[bytes] = []
                    try:
                        while part := await stream.receive(4):
                            parts.append(part)
                    except StreamReset as error:
                        read.set_result((parts, error.code))

            async with server(handler) as running, client(running) as connection:
                stream = await connection.open_stream()
                await stream.send(b"header")
                stream.commit()
                await stream.send(b"the rest")
                stream.reset(5)
                parts, code = await read
                assert b"".join(parts).startswith(b"header")
                assert code == 5

        run(scenario)

    def test_reset_and_stop_reach_the_other_side(self) -> None:
        seen: list[StreamReset] = []
        both = asyncio.Event()

        async def watch(connection: QuicConnection) -> None:
            stream = await connection.accept_stream()
            for work in (stream.receive_all, lambda: stream.send(bytes(50_000_000))):
                try:
                    await work()
                except StreamReset as error:
                    seen.append(error)
            both.set()
            await connection.wait_closed()

        async def scenario() -> None:
            async with server(watch) as running, client(running) as connection:
                stream = await connection.open_stream()
                await stream.send(b"hello")
                stream.reset(5)
                stream.stop_sending(6)
                await both.wait()
            assert [(error.code, error.stopped) for error in seen] == [(5, False), (6, True)]

        run(scenario)

    def test_unidirectional_streams_both_ways(self) -> None:
        async def push(connection: QuicConnection) -> None:
            got = await (await connection.accept_stream()).receive_all()
            stream = await connection.open_stream(unidirectional=True)
            await stream.send(got.upper(), end=True)
            await connection.wait_closed()

        async def scenario() -> None:
            async with server(push) as running, client(running) as connection:
                stream = await connection.open_stream(unidirectional=True)
                await stream.send(b"hello", end=True)
                answer = await connection.accept_stream()
                assert answer.unidirectional
                assert await answer.receive_all() == b"HELLO"

        run(scenario)

    def test_keys_are_updated_on_demand_and_both_ends_go_on(self) -> None:
        async def echo_all(connection: QuicConnection) -> None:
            async for stream in connection.incoming_streams():
                await stream.send(await stream.receive_all(), end=True)

        async def scenario() -> None:
            async with server(echo_all) as running, client(running) as connection:
                for turn in range(4):
                    stream = await connection.open_stream()
                    await stream.send(bytes(100_000), end=True)
                    assert await stream.receive_all() == bytes(100_000)
                    assert connection.statistics()["key_updates"] == turn
                    assert running.connections[0].statistics()["key_updates"] == turn
                    assert connection.update_keys()
                    assert not connection.update_keys()  # the peer has yet to acknowledge it

        run(scenario)

    def test_cancelling_a_receive_loses_nothing(self) -> None:
        async def scenario() -> None:
            async with server() as running, client(running) as connection:
                stream = await connection.open_stream()
                for _ in range(5):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await stream.receive()
                await stream.send(b"hello", end=True)
                assert await stream.receive_all() == b"hello"

        run(scenario)

    def test_reads_have_the_length_that_is_asked_for(self) -> None:
        async def scenario() -> None:
            async with server() as running, client(running) as connection:
                stream = await connection.open_stream()
                data = os.urandom(100_000)
                await stream.send(data, end=True)
                parts = []
                while part := await stream.receive(777):
                    assert len(part) <= 777
                    parts.append(part)
                assert b"".join(parts) == data

        run(scenario)

    def test_a_hundred_streams_at_once(self) -> None:
        async def scenario() -> None:
            async with server() as running, client(running) as connection:

                async def one(size: int) -> None:
                    stream = await connection.open_stream()
                    data = os.urandom(size)
                    sending = asyncio.create_task(stream.send(data, end=True))
                    assert await stream.receive_all() == data
                    await sending

                await asyncio.gather(*(one(size * 700) for size in range(300)))

        run(scenario)

    def test_ended_streams_are_forgotten(self) -> None:
        async def scenario() -> None:
            async with server() as running, client(running) as connection:
                stream = await connection.open_stream()
                await stream.send(b"x", end=True)
                assert await stream.receive_all() == b"x"
                await stream.wait_acknowledged()
                gone = weakref.ref(stream)
                del stream
                gc.collect()
                assert gone() is None
                assert connection.statistics()["streams"] == 0

        run(scenario)


class TestEnds:
    def test_an_ended_connection_is_no_work_for_the_garbage_collector(self) -> None:
        async def scenario() -> None:
            async with server() as running:
                with no_collector():
                    async with client(running) as connection:
                        ended = weakref.ref(connection)
                    del connection
                    await asyncio.sleep(0)
                    assert ended() is None

        run(scenario)

    def test_a_server_keeps_nothing_of_a_connection_that_its_client_closed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fairway.quic.closing.CLOSE_PROBES", 1_000_000)  # nobody waits for the draining period

        async def scenario() -> None:
            async with server() as running:
                with no_collector():
                    async with client(running) as connection:
                        assert await ask(connection, b"hello") == b"hello"
                        (ended,) = map(weakref.ref, running.connections)
                    while ended() is not None:  # noqa: ASYNC110 - nothing tells of it
                        await asyncio.sleep(0.01)

        run(scenario)

    def test_a_server_that_closes_waits_for_a_handler_whose_client_has_left(self) -> None:
        begun, left, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def tidies_up(connection: QuicConnection) -> None:
            begun.set()
            await connection.wait_closed()
            left.set()
            for _ in range(20):
                await asyncio.sleep(0.01)
            finished.set()

        async def scenario() -> None:
            async with server(tidies_up, grace_s=10) as running:
                async with client(running):
                    await begun.wait()
                await left.wait()
                assert not running.connections
                gc.collect()
            assert finished.is_set()

        run(scenario)

    def test_a_reader_learns_of_the_end_though_streams_wait_to_be_accepted(self) -> None:
        outcome: list[Exception] = []
        ended = asyncio.Event()

        async def one_only(connection: QuicConnection) -> None:
            stream = await connection.accept_stream()
            try:
                while await stream.receive():
                    pass
            except ConnectionClosed as error:
                outcome.append(error)
            ended.set()

        async def scenario() -> None:
            async with server(one_only) as running:
                connection = await client(running)
                for _ in range(3):
                    await (await connection.open_stream()).send(b"never ended")
                await asyncio.sleep(0.05)
                connection.close(3, "bye")
                await ended.wait()
                assert [str(error) for error in outcome] == ["closed by the peer with application error 0x3: bye"]

        run(scenario)

    def test_what_arrived_before_the_end_can_still_be_read(self) -> None:
        async def say_and_leave(connection: QuicConnection) -> None:
            stream = await connection.accept_stream()
            await stream.receive()
            await stream.send(b"last words")
            await asyncio.sleep(0.05)
            connection.close(9)

        async def scenario() -> None:
            async with server(say_and_leave) as running:
                connection = await client(running)
                stream = await connection.open_stream()
                await stream.send(b"?")
                await connection.wait_closed()
                assert await stream.receive() == b"last words"
                with pytest.raises(ConnectionClosed):
                    await stream.receive()

        run(scenario)

    def test_leaving_the_block_delivers_what_was_sent(self) -> None:
        got: list[bytes] = []
        arrived = asyncio.Event()

        async def collect(connection: QuicConnection) -> None:
            got.append(await (await connection.accept_stream()).receive_all())
            arrived.set()

        async def scenario() -> None:
            async with server(collect) as running:
                async with client(running) as connection:
                    stream = await connection.open_stream(unidirectional=True)
                    await stream.send(b"x" * 1_000_000, end=True)
                await arrived.wait()
                assert got == [b"x" * 1_000_000]

        run(scenario)

    def test_a_server_that_closes_lets_handlers_finish(self) -> None:
        async def slow(connection: QuicConnection) -> None:
            stream = await connection.accept_stream()
            await stream.receive_all()
            await asyncio.sleep(0.2)
            await stream.send(b"done", end=True)

        async def scenario() -> None:
            running = await server(slow)
            async with client(running) as connection:
                stream = await connection.open_stream()
                await stream.send(b"go", end=True)
                await asyncio.sleep(0.05)
                closing = asyncio.create_task(running.close(grace_s=5))
                assert await stream.receive_all() == b"done"
                await closing

        run(scenario)

    def test_a_server_that_closes_accepts_nobody_new(self) -> None:
        met = asyncio.Event()

        async def forever(connection: QuicConnection) -> None:
            met.set()
            await connection.wait_closed()

        async def scenario() -> None:
            running = await server(forever)
            async with client(running):
                await met.wait()
                closing = asyncio.create_task(running.close(grace_s=0.5))
                await asyncio.sleep(0.05)
                with pytest.raises((TimeoutError, ConnectionClosed)):
                    await client(running, timeout=0.3)
                await closing

        run(scenario)


class TestDatagrams:
    def test_they_go_both_ways_and_the_oldest_of_too_many_is_dropped(self) -> None:
        async def answer(connection: QuicConnection) -> None:
            for _ in range(2):
                connection.send_datagram(await connection.receive_datagram() + b"!")
            stream = await connection.accept_stream()
            await stream.receive_all()
            for number in range(MAX_DATAGRAMS_KEPT + 10):
                while not connection.send_datagram(b"%d" % number):  # noqa: ASYNC110 - no event tells of room
                    await asyncio.sleep(0)
            await stream.send(b"all sent", end=True)
            await connection.wait_closed()

        async def scenario() -> None:
            async with server(answer, configuration=DATAGRAMS) as running:
                connection = await client(running, configuration=DATAGRAMS)
                assert connection.max_datagram_size > 1400
                assert connection.send_datagram(b"one")
                assert await connection.receive_datagram() == b"one!"
                waiting = asyncio.create_task(connection.receive_datagram())
                await asyncio.sleep(0)
                waiting.cancel()
                assert connection.send_datagram(b"two")
                assert await connection.receive_datagram() == b"two!"
                assert await ask(connection, b"now many") == b"all sent"
                while connection.statistics()["datagrams_received"] < MAX_DATAGRAMS_KEPT + 12:  # noqa: ASYNC110 - they must not be fetched
                    await asyncio.sleep(0.001)
                assert connection.statistics()["datagrams_dropped"] == 10
                assert await connection.receive_datagram() == b"10"
                connection.close()
                for _ in range(MAX_DATAGRAMS_KEPT - 1):
                    last = await connection.receive_datagram()
                assert last == b"%d" % (MAX_DATAGRAMS_KEPT + 9)
                with pytest.raises(ConnectionClosed):
                    await connection.receive_datagram()
                with pytest.raises(ConnectionClosed):
                    connection.send_datagram(b"late")

        run(scenario)

    def test_a_waiting_reader_learns_of_the_end(self) -> None:
        async def scenario() -> None:
            async with server(configuration=DATAGRAMS) as running:
                connection = await client(running, configuration=DATAGRAMS)
                waiting = asyncio.create_task(connection.receive_datagram())
                await asyncio.sleep(0)
                connection.close()
                with pytest.raises(ConnectionClosed):
                    await waiting

        run(scenario)


class TestSockets:
    def test_the_key_log_is_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

        async def scenario() -> None:
            async with server() as running, client(running):
                pass

        run(scenario)
        labels = {line.split(" ")[0] for line in (tmp_path / "keys").read_text().splitlines()}
        assert {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"} <= labels

    @pytest.mark.parametrize("gso", [True, False])
    @pytest.mark.parametrize("gro", [True, False])
    def test_batches_arrive_whole_with_or_without_the_kernels_help(self, gso: bool, gro: bool) -> None:
        receiver = UdpSocket(bind("127.0.0.1", 0), gro=gro)
        sender = UdpSocket(bind("127.0.0.1", 0), gso=gso)
        data = os.urandom(10 * 1200 + 500)
        assert sender.send(data, 1200, receiver.address) == len(data)
        got = []
        while (received := receiver.receive()) is not None:
            buffer, segment, _, _ = received
            got += [buffer[at : at + segment] for at in range(0, len(buffer), segment)]
        assert b"".join(got) == data
        assert [len(datagram) for datagram in got] == [1200] * 10 + [500]
        receiver.close()
        sender.close()
