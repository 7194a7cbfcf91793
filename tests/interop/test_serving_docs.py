"""The README's way: `fairway serve --directory docs --listing --self-signed`, opened by Chromium and by curl."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pycurl
import pytest
from chromium import CHROMIUM, browsing

DOCS = Path(__file__).parents[2] / "docs"


@dataclass
class Serving:
    """What the command said when it started."""

    url: str
    port: int
    authority: str
    spki: str
    log: Path


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("serving")
    log = directory / "log"
    command = [str(Path(sys.executable).with_name("fairway")), "serve", "--directory", str(DOCS), "--listing"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--self-signed", "--port", "0"],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(directory)},
        )
        assert process.stderr is not None
        said = ""
        while "spki-list=" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        port = int(re.findall(r"https://localhost:(\d+)/", said)[0])
        authority = re.findall(r"--cacert (\S+)", said)[0]
        spki = re.findall(r"spki-list=(\S+)", said)[0]
        yield Serving(f"https://localhost:{port}", port, authority, spki, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_curl_gets_a_document(serving: Serving) -> None:
    body = io.BytesIO()
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, f"{serving.url}/serve.md")
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_3ONLY)
    handle.setopt(pycurl.CAINFO, serving.authority)
    handle.setopt(pycurl.RESOLVE, [f"localhost:{serving.port}:127.0.0.1"])
    handle.setopt(pycurl.WRITEFUNCTION, body.write)
    handle.perform()
    assert handle.getinfo(pycurl.INFO_HTTP_VERSION) == 30
    assert body.getvalue() == (DOCS / "serve.md").read_bytes()


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (make setup installs it)")
def test_chromium_opens_the_listing_and_follows_it_by_h3(serving: Serving, tmp_path: Path) -> None:
    with browsing(serving.port, serving.spki) as browser:
        browser.open(serving.url + "/")
        assert browser.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h3"
        names = browser.evaluate("[...document.links].map(link => link.getAttribute('href'))")
        assert "serve.md" in [name.removeprefix("./") for name in names]
        (tmp_path / "listing.png").write_bytes(browser.screenshot())
        browser.open(serving.url + "/img/h3_hol.svg")
        assert browser.evaluate("document.documentElement.tagName") == "svg"
        assert browser.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h3"
    assert re.search(r'"GET /img/h3_hol.svg" 200 \d+ h3', serving.log.read_text())
