"""curl (libcurl with ngtcp2 and nghttp3, as the pycurl wheel has it) against our HTTP/3 server."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pycurl
import pytest
from http3_origin import Origin, content, origin

pytestmark = pytest.mark.skipif(
    not hasattr(pycurl, "CURL_HTTP_VERSION_3ONLY"), reason="needs a pycurl with HTTP/3, as its wheel is"
)
HTTP_3 = 30  # what libcurl reports


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with origin(tmp_path_factory.mktemp("origin")) as running:
        yield running


class Transfer:
    """One request by a handle that keeps its connection."""

    def __init__(self, server: Origin, handle: pycurl.Curl | None = None) -> None:
        self.body = io.BytesIO()
        self.head: list[bytes] = []
        self.handle = handle or pycurl.Curl()
        self.handle.reset()
        for option, value in (
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_3ONLY),
            (pycurl.CAINFO, str(server.certificate)),
            (pycurl.WRITEFUNCTION, self.body.write),
            (pycurl.HEADERFUNCTION, self.head.append),
            (pycurl.RESOLVE, [f"localhost:{server.port}:127.0.0.1"]),
            (pycurl.TIMEOUT, 60),
        ):
            self.handle.setopt(option, value)
        self._url = server.url

    def run(self, path: str, **options: object) -> Transfer:
        """Perform it; keyword arguments are options of curl."""
        self.handle.setopt(pycurl.URL, self._url + path)
        for name, value in options.items():
            self.handle.setopt(getattr(pycurl, name), value)
        self.handle.perform()
        assert self.handle.getinfo(pycurl.INFO_HTTP_VERSION) == HTTP_3
        return self

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.handle.getinfo(pycurl.RESPONSE_CODE))


def test_get_with_a_verified_certificate(server: Origin) -> None:
    transfer = Transfer(server).run("/bytes/100000")
    assert transfer.status == 200
    assert transfer.body.getvalue() == content(100_000)


def test_head_has_the_length_and_no_body(server: Origin) -> None:
    transfer = Transfer(server).run("/bytes/1234", NOBODY=True)
    assert transfer.status == 200
    assert b"content-length: 1234\r\n" in transfer.head
    assert transfer.body.getvalue() == b""


def test_a_post_of_100_megabytes_comes_back(server: Origin) -> None:
    sent = content(100_000_000)
    transfer = Transfer(server).run(
        "/echo", POST=True, READFUNCTION=io.BytesIO(sent).read, POSTFIELDSIZE_LARGE=len(sent), HTTPHEADER=["Expect:"]
    )
    assert transfer.body.getvalue() == sent


def test_interim_response_and_trailers_are_seen(server: Origin) -> None:
    transfer = Transfer(server).run("/trailers")
    head = b"".join(transfer.head)
    assert b"HTTP/3 103" in head
    assert b"x-sum: 4" in head
    assert transfer.body.getvalue() == b"body"


def test_large_fields_go_both_ways(server: Origin) -> None:
    transfer = Transfer(server).run("/fields", HTTPHEADER=["x-large: " + "a" * 30_000])
    assert int(transfer.body.getvalue()) > 30_000
    assert any(line.startswith(b"x-large: vvv") and len(line) > 20_000 for line in transfer.head)


def test_fields_past_our_limit_are_answered_with_431(server: Origin) -> None:
    transfer = Transfer(server).run("/fields", HTTPHEADER=[f"x-{index}: " + "a" * 8_000 for index in range(10)])
    assert transfer.status == 431


def test_1999_requests_use_one_connection(server: Origin) -> None:
    before = len(server.log.connections)
    handle = pycurl.Curl()
    for index in range(1999):
        transfer = Transfer(server, handle).run(f"/image/{index}.svg")
        assert transfer.status == 200
    assert len(server.log.connections) == before + 1


def test_many_at_once_are_multiplexed(server: Origin) -> None:
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
    before = len(server.log.connections)
    transfers = [Transfer(server) for _ in range(50)]
    for index, transfer in enumerate(transfers):
        transfer.handle.setopt(pycurl.URL, f"{server.url}/bytes/{10_000 + index}")
        transfer.handle.setopt(pycurl.PIPEWAIT, 1)
        multi.add_handle(transfer.handle)
    active = 1
    while active:
        _, active = multi.perform()
        multi.select(1.0)
    assert [transfer.body.getvalue() for transfer in transfers] == [content(10_000 + index) for index in range(50)]
    assert len(server.log.connections) == before + 1


def test_a_cancelled_download_ends_at_the_server(server: Origin) -> None:
    transfer = Transfer(server)

    def refuse(data: bytes) -> int:
        return 0

    stop: Callable[[bytes], int] = refuse
    with pytest.raises(pycurl.error):
        transfer.run("/bytes/1000000000", WRITEFUNCTION=stop)
    again = Transfer(server, transfer.handle).run("/bytes/10")
    assert again.body.getvalue() == content(10)
    assert server.log.aborted.wait(10)
