"""Chromium against our HTTP/3 server: a page with many resources, fetch, WebTransport."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, Chromium, browsing
from http3_origin import IMAGES, Origin, origin

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (make setup installs it)")

WEBTRANSPORT = """
(async () => {
  const read = async (stream) => {
    const reader = stream.getReader();
    let text = '';
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return text;
      text += new TextDecoder().decode(value);
    }
  };
  const write = async (stream, text) => {
    const writer = stream.getWriter();
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  };
  const session = new WebTransport(location.origin + '/session');
  await session.ready;
  const both = await session.createBidirectionalStream();
  await write(both.writable, 'hello');
  const answer = await read(both.readable);
  await write(await session.createUnidirectionalStream(), 'one way');
  const incoming = await session.incomingUnidirectionalStreams.getReader().read();
  const back = await read(incoming.value);
  const datagrams = session.datagrams.readable.getReader();
  await session.datagrams.writable.getWriter().write(new Uint8Array([1, 2, 3]));
  const datagram = [...(await datagrams.read()).value];
  session.close({closeCode: 5, reason: 'done'});
  return [answer, back, datagram];
})()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with origin(tmp_path_factory.mktemp("origin")) as running:
        yield running


@pytest.fixture(scope="module")
def browser(server: Origin) -> Iterator[Chromium]:
    with browsing(server.port, server.spki) as running:
        running.open(server.url + "/")
        yield running


def test_a_page_and_its_hundred_images_come_by_h3_on_one_connection(browser: Chromium, server: Origin) -> None:
    protocol = browser.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert protocol == "h3"
    by_h3 = (
        "performance.getEntriesByType('resource').filter(e => e.name.includes('/image/') && e.nextHopProtocol == 'h3')"
    )
    assert browser.evaluate(f"{by_h3}.length") == IMAGES
    assert browser.evaluate("[...document.images].filter(image => image.naturalWidth == 10).length") == IMAGES
    assert {b"/image/%d.svg" % index for index in range(IMAGES)} <= set(server.log.paths())
    assert len(server.log.connections) == 1


def test_the_page_is_drawn(browser: Chromium, tmp_path: Path) -> None:
    picture = browser.screenshot()
    (tmp_path / "page.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 1000


def test_fetch_posts_a_megabyte_and_gets_it_back(browser: Chromium) -> None:
    script = "fetch('/echo', {method: 'POST', body: 'x'.repeat(1 << 20)}).then(r => r.text()).then(t => t.length)"
    assert browser.evaluate(script) == 1 << 20


def test_a_fetch_that_is_aborted_leaves_the_connection_usable(browser: Chromium, server: Origin) -> None:
    script = """(async () => {
      const stop = new AbortController();
      const response = await fetch('/bytes/100000000', {signal: stop.signal});
      await response.body.getReader().read();
      stop.abort();
      return (await fetch('/image/0.svg?again')).status;
    })()"""
    assert browser.evaluate(script) == 200
    assert len(server.log.connections) == 1


def test_priorities_of_the_browser_arrive(browser: Chromium, server: Origin) -> None:
    fields = {dict(request.fields)[b":path"]: dict(request.fields) for request in server.log.requests}
    assert fields[b"/"][b"priority"] == b"u=0, i"
    assert fields[b"/image/0.svg"][b"priority"] != b"u=0, i"


def test_webtransport_streams_and_datagrams_work_from_the_page(browser: Chromium) -> None:
    assert browser.evaluate(WEBTRANSPORT) == ["olleh", "yaw eno", [1, 2, 3]]
