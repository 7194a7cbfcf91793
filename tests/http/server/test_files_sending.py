"""Bodies on their way: by descriptor, in chunks, from cold files, to clients that go, of files that change."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from files_driver import ask, files, open_descriptors, request, tree

from fairway.http.server.files import FileShrank, limits, open_file

DATA = os.urandom(limits.CHUNK_BYTES * 3 + 17)
TEXT = b"".join(b"line %d\n" % number for number in range(300_000))
ZEROCOPY = {"http.response.zerocopysend": {}}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    assert len(TEXT) > limits.MAX_COMPRESSED_WHOLE_BYTES
    return tree(tmp_path / "site", {"big.bin": DATA, "big.txt": TEXT})


class TestWhole:
    def test_a_large_file_comes_in_chunks(self, site: Path) -> None:
        response = request(files(site), "/big.bin")
        assert response.body == DATA
        assert response.headers["content-length"] == str(len(DATA))
        bodies = [message["body"] for message in response.messages[1:]]
        assert max(map(len, bodies)) == limits.CHUNK_BYTES
        assert response.complete

    def test_a_server_that_takes_descriptors_is_given_one(self, site: Path) -> None:
        before = open_descriptors()
        response = request(files(site), "/big.bin", extensions=ZEROCOPY)
        assert [message["type"] for message in response.messages] == [
            "http.response.start",
            "http.response.zerocopysend",
        ]
        assert response.body == DATA
        assert response.complete
        assert open_descriptors() == before

    def test_ranges_are_given_as_places_in_it(self, site: Path) -> None:
        for headers in ({"range": "bytes=10-400000"}, {"range": "bytes=5-9,300000-400000"}):
            plain = request(files(site), "/big.bin", headers)
            response = request(files(site), "/big.bin", headers, extensions=ZEROCOPY)
            kinds = {message["type"] for message in response.messages if "offset" in message}
            assert kinds == {"http.response.zerocopysend"}
            assert len(response.body) == len(plain.body) == int(response.headers["content-length"])
            assert response.complete
        assert (
            request(files(site), "/big.bin", {"range": "bytes=10-400000"}, extensions=ZEROCOPY).body == DATA[10:400001]
        )

    @pytest.mark.parametrize("number", [errno.EAGAIN, errno.EOPNOTSUPP])
    def test_what_is_not_in_memory_is_read_in_a_thread(
        self, site: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        readers = set()
        pread = os.pread

        def not_in_memory(*_: object) -> int:
            raise OSError(number, "would wait")

        def watched(*arguments: Any) -> bytes:
            readers.add(threading.current_thread())
            return pread(*arguments)

        monkeypatch.setattr(os, "preadv", not_in_memory)
        monkeypatch.setattr(os, "pread", watched)
        monkeypatch.setattr(open_file, "file_system", lambda device: b"nfs4")
        assert request(files(site), "/big.bin").body == DATA
        assert threading.main_thread() not in readers

    def test_a_file_system_that_is_memory_is_read_by_the_loop_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            if open_file.file_system(os.stat(directory).st_dev) != b"tmpfs":
                pytest.skip("no tmpfs here")
            site = tree(Path(directory) / "site", {"big.bin": DATA})
            readers = set()
            pread = os.pread

            def watched(*arguments: Any) -> bytes:
                readers.add(threading.current_thread())
                return pread(*arguments)

            monkeypatch.setattr(os, "pread", watched)
            assert request(files(site), "/big.bin").body == DATA
            assert readers == {threading.main_thread()}

    def test_the_type_of_a_file_system_is_found_by_the_device_of_its_files(self) -> None:
        assert open_file.file_system(os.stat("/proc/self/status").st_dev) == b"proc"
        assert open_file.file_system(os.makedev(4095, 0)) == b""

    def test_others_get_their_turn_while_a_file_is_sent_to_a_client_that_never_waits(self, site: Path) -> None:
        turns = []

        async def other() -> None:
            while True:
                turns.append(None)
                await asyncio.sleep(0)

        async def both() -> int:
            task = asyncio.ensure_future(other())
            response = await ask(files(site), "/big.bin")
            task.cancel()
            return len(response.messages)

        messages = asyncio.run(both())
        assert messages == 5
        assert len(turns) >= messages - 2


class TestClientsThatGo:
    @pytest.mark.parametrize("target", ["/big.bin", "/big.txt"])
    def test_no_more_is_read_for_a_client_that_has_gone(self, site: Path, target: str) -> None:
        before = open_descriptors()

        async def run() -> Any:
            gone = asyncio.Event()
            events = [{"type": "http.request", "body": b"ignored", "more_body": False}]

            async def receive() -> dict[str, Any]:
                if events:
                    return events.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            async def on_send(message: dict[str, Any]) -> None:
                if message["type"] == "http.response.body":
                    gone.set()

            headers = {"accept-encoding": "gzip"}
            return await ask(files(site), target, headers, receive=receive, on_send=on_send)

        response = asyncio.run(run())
        assert not response.complete
        assert 2 <= len(response.messages) <= 3
        assert open_descriptors() == before

    @pytest.mark.parametrize("target", ["/big.bin", "/big.txt"])
    @pytest.mark.parametrize("extensions", [None, ZEROCOPY])
    def test_a_cancelled_download_closes_its_file(
        self, site: Path, target: str, extensions: dict[str, Any] | None
    ) -> None:
        before = open_descriptors()

        async def run() -> int:
            sending = asyncio.Event()

            async def on_send(message: dict[str, Any]) -> None:
                if message["type"] != "http.response.start":
                    sending.set()
                    await asyncio.Event().wait()

            headers = {"accept-encoding": "gzip"}
            task = asyncio.ensure_future(ask(files(site), target, headers, on_send=on_send, extensions=extensions))
            await sending.wait()
            during = open_descriptors()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return during

        assert asyncio.run(run()) > before
        assert open_descriptors() == before

    def test_a_file_stays_open_for_the_thread_that_still_reads_it(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reading, go_on = threading.Event(), threading.Event()
        results: list[bytes] = []
        pread = os.pread

        def not_in_memory(*_: object) -> int:
            raise OSError(errno.EAGAIN, "would wait")

        def slow(*arguments: Any) -> bytes:
            reading.set()
            assert go_on.wait(30)
            results.append(pread(*arguments))
            return results[-1]

        monkeypatch.setattr(os, "preadv", not_in_memory)
        monkeypatch.setattr(os, "pread", slow)
        before = open_descriptors()

        async def run() -> None:
            task = asyncio.ensure_future(ask(files(site), "/big.bin"))
            assert await asyncio.to_thread(reading.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            await asyncio.get_running_loop().shutdown_default_executor()
            await asyncio.sleep(0)
            assert results == [DATA[: limits.CHUNK_BYTES]]

        asyncio.run(run())
        assert open_descriptors() == before

    def test_an_error_of_send_closes_the_file(self, site: Path) -> None:
        async def on_send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                raise OSError("the client has gone")

        before = open_descriptors()
        response = request(files(site), "/big.bin", on_send=on_send)
        assert isinstance(response.error, OSError)
        assert open_descriptors() == before


class TestFilesThatChange:
    @pytest.mark.parametrize("extensions", [None, ZEROCOPY])
    @pytest.mark.parametrize("target", ["/big.bin", "/big.txt"])
    def test_one_that_shrinks_ends_in_an_error_not_in_other_bytes(
        self, site: Path, target: str, extensions: dict[str, Any] | None
    ) -> None:
        async def on_send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                os.truncate(site / target[1:], 1000)

        response = request(files(site), target, {"accept-encoding": "gzip"}, on_send=on_send, extensions=extensions)
        assert isinstance(response.error, FileShrank)
        assert not response.complete
        assert response.body in (b"", DATA[: len(response.body)]) or target == "/big.txt"

    def test_one_that_grows_is_sent_in_the_length_announced(self, site: Path) -> None:
        async def on_send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                os.truncate(site / "big.bin", len(DATA) + 4)

        for extensions in (None, ZEROCOPY):
            tree(site, {"big.bin": DATA})
            response = request(files(site), "/big.bin", on_send=on_send, extensions=extensions)
            assert response.body == DATA
            assert response.headers["content-length"] == str(len(DATA))
            assert response.complete

    def test_a_small_one_that_changes_while_it_is_read_is_sent_in_the_length_announced(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tree(site, {"small.txt": b"12345"})
        pread = os.pread
        appended = []

        def racing(*arguments: Any) -> bytes:
            if not appended:
                appended.append(True)
                with open(site / "small.txt", "ab") as file:
                    file.write(b"67890")
            return pread(*arguments)

        monkeypatch.setattr(os, "pread", racing)
        app = files(site)
        response = request(app, "/small.txt")
        assert (response.body, response.headers["content-length"]) == (b"12345", "5")
        assert request(app, "/small.txt").body == b"1234567890"

    def test_a_small_one_that_shrinks_while_it_is_read_ends_in_an_error(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tree(site, {"small.txt": b"12345"})
        pread = os.pread

        def racing(*arguments: Any) -> bytes:
            os.truncate(site / "small.txt", 2)
            return pread(*arguments)

        monkeypatch.setattr(os, "pread", racing)
        app = files(site)
        assert isinstance(request(app, "/small.txt").error, FileShrank)
        assert request(app, "/small.txt").body == b"12"
