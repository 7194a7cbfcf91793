"""`fairway get` as a process: what it saves, prints, sends, and how it fails."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import BODY, Shop
from fairway.cli.get_progress import TransferProgress

GET = [sys.executable, "-c", "from fairway.cli import main; main()", "get"]


def run(
    shop: Shop, authority: str, cwd: Path, *arguments: str, stdin: bytes = b"", ca: bool = True
) -> subprocess.CompletedProcess[bytes]:
    given = [f"https://localhost:{shop.port}{word}" if word.startswith("/") else word for word in arguments]
    command = [*GET, *given, *(["--ca", authority] if ca else [])]
    return subprocess.run(command, capture_output=True, input=stdin, cwd=cwd, timeout=30, check=False)


def sent(shop: Shop, name: bytes) -> list[bytes]:
    return [value for fields in shop.requests for known, value in fields if known == name]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_url_goes_to_stdout_a_file_or_the_name_it_has(shop: Shop, authority: str, tmp_path: Path) -> None:
    assert run(shop, authority, tmp_path, "/file.bin").stdout == BODY
    assert run(shop, authority, tmp_path, "/file.bin", "-o", "here").returncode == 0
    assert run(shop, authority, tmp_path, "/file.bin?x=1", "-O").returncode == 0
    assert names(tmp_path) == ["file.bin", "here"]
    assert (tmp_path / "here").read_bytes() == (tmp_path / "file.bin").read_bytes() == BODY


def test_several_urls_share_one_connection_and_go_into_a_directory(shop: Shop, authority: str, tmp_path: Path) -> None:
    urls = [f"/file.{number}" for number in range(8)]
    assert run(shop, authority, tmp_path, *urls, "-o", "all/").returncode == 0
    assert names(tmp_path / "all") == sorted(url[1:] for url in urls)
    assert len(shop.connections) == 1


def test_several_urls_without_a_place_are_refused(shop: Shop, authority: str, tmp_path: Path) -> None:
    for arguments in (["/a", "/b"], ["/a/same", "/b/same", "-O"], ["/a", "-O", "-o", "x"], ["/a", "-C"]):
        done = run(shop, authority, tmp_path, *arguments)
        assert (done.returncode, shop.requests) == (2, [])


def test_method_fields_and_body_are_sent(shop: Shop, authority: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(BODY)
    run(shop, authority, tmp_path, "/upload", "--data", "a=1")
    run(shop, authority, tmp_path, "/upload", "--data", "@body", "-X", "PUT", "-H", "X-Mine: yes")
    run(shop, authority, tmp_path, "/upload", "--data", "-", "--priority", "u=1,i", stdin=BODY)
    assert shop.uploaded == [b"a=1", BODY, BODY]
    assert sent(shop, b":method") == [b"POST", b"PUT", b"POST"]
    assert sent(shop, b"content-length") == [b"3", b"%d" % len(BODY)]
    assert (sent(shop, b"x-mine"), sent(shop, b"priority")) == ([b"yes"], [b"u=1,i"])


def test_a_pipe_is_sent_as_it_comes(shop: Shop, authority: str, tmp_path: Path) -> None:
    done = run(shop, authority, tmp_path, "/upload", "--data", "-", stdin=b"piece")
    assert (done.stdout, shop.uploaded) == (b"hello", [b"piece"])


def test_the_head_is_printed(shop: Shop, authority: str, tmp_path: Path) -> None:
    head = run(shop, authority, tmp_path, "/file.bin", "-I").stdout.decode()
    assert head.startswith("HTTP/3 200\n")
    assert f"content-length: {len(BODY)}\n" in head
    both = run(shop, authority, tmp_path, "/", "-i").stdout.decode()
    assert both.startswith("HTTP/3 200\n")
    assert both.endswith("\n\nhello")


def test_redirects_are_followed_when_asked(shop: Shop, authority: str, tmp_path: Path) -> None:
    assert run(shop, authority, tmp_path, "/moved").stdout == b""
    assert run(shop, authority, tmp_path, "/moved", "-L").stdout == BODY
    assert run(shop, authority, tmp_path, "/kept", "-L", "--data", "again").stdout == b"hello"
    assert shop.uploaded == [b"again"]
    for path, words in (("/around", b"20 redirects"), ("/plain", b"only for https")):
        done = run(shop, authority, tmp_path, path, "-L")
        assert done.returncode == 47
        assert words in done.stderr


def test_fail_saves_nothing_and_exits_with_22(shop: Shop, authority: str, tmp_path: Path) -> None:
    assert run(shop, authority, tmp_path, "/nowhere").returncode == 0
    done = run(shop, authority, tmp_path, "/nowhere", "--fail", "-o", "page")
    assert (done.returncode, done.stdout) == (22, b"")
    assert b"404" in done.stderr
    assert names(tmp_path) == []


def test_what_is_wanted_over_an_older_http_is_said_with_a_mend(shop: Shop, authority: str, tmp_path: Path) -> None:
    done = run(shop, authority, tmp_path, "/older", "-o", "page")  # RFC 9114 section 8.1: H3_VERSION_FALLBACK
    assert (done.returncode, done.stdout) == (56, b"")
    assert b"localhost wants this over HTTP/1.1" in done.stderr
    assert f"mend: curl --http1.1 https://localhost:{shop.port}/older".encode() in done.stderr
    assert names(tmp_path) == []


def test_a_download_that_breaks_off_is_never_left_as_if_whole_and_can_be_continued(
    shop: Shop, authority: str, tmp_path: Path
) -> None:
    done = run(shop, authority, tmp_path, "/cut", "-O", "--max-time", "1")
    assert done.returncode == 28
    assert f"{shop.cut_at} bytes are in cut.part (continue with -C)".encode() in done.stderr
    assert names(tmp_path) == ["cut.part", "cut.part.from"]
    done = run(shop, authority, tmp_path, "/cut", "-O", "-C", "--sha256")
    assert done.returncode == 0
    assert names(tmp_path) == ["cut"]
    assert (tmp_path / "cut").read_bytes() == BODY
    assert hashlib.sha256(BODY).hexdigest().encode() in done.stderr
    assert sent(shop, b"range") == [b"bytes=%d-" % shop.cut_at]


def test_what_has_changed_meanwhile_is_fetched_anew(shop: Shop, authority: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"old bytes")
    (tmp_path / "file.part.from").write_bytes(b'"older"')
    assert run(shop, authority, tmp_path, "/file", "-O", "-C").returncode == 0
    assert (tmp_path / "file").read_bytes() == BODY


def test_nothing_of_an_older_part_is_left_in_the_file(shop: Shop, authority: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(bytes(2 * len(BODY)))
    assert run(shop, authority, tmp_path, "/file", "-O").returncode == 0
    assert (tmp_path / "file").read_bytes() == BODY


def test_of_a_download_that_brought_nothing_nothing_remains(shop: Shop, authority: str, tmp_path: Path) -> None:
    shop.cut_at = 0
    assert run(shop, authority, tmp_path, "/cut", "-O", "--max-time", "1").returncode == 28
    assert names(tmp_path) == []


def test_a_part_that_is_whole_already_gets_its_name(shop: Shop, authority: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(BODY)
    (tmp_path / "file.part.from").write_bytes(shop.etag)
    assert run(shop, authority, tmp_path, "/file", "-O", "-C").returncode == 0
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == BODY


def test_an_interrupted_download_says_what_remains(shop: Shop, authority: str, tmp_path: Path) -> None:
    command = [*GET, f"https://localhost:{shop.port}/cut", "-O", "--ca", authority, "-i"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"HTTP/3 200\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert "cut" not in names(tmp_path)


def test_a_range_is_asked_for(shop: Shop, authority: str, tmp_path: Path) -> None:
    assert run(shop, authority, tmp_path, "/file", "--range", "10-19").stdout == BODY[10:20]
    assert run(shop, authority, tmp_path, "/file", "--range", "ten").returncode == 2


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_compressed_saves_what_it_was_before(coding: str, shop: Shop, authority: str, tmp_path: Path) -> None:
    assert run(shop, authority, tmp_path, "/coded", "--compressed", "-H", f"x-coding: {coding}").stdout == BODY


def test_json_is_one_document_about_every_url(shop: Shop, authority: str, tmp_path: Path) -> None:
    done = run(shop, authority, tmp_path, "/moved", "/nowhere", "--json", "-L", "--sha256")
    moved, nowhere = json.loads(done.stdout)["transfers"]
    assert (moved["status"], moved["redirects"], moved["bytes_saved"]) == (200, 1, len(BODY))
    assert moved["final_url"] == f"https://localhost:{shop.port}/file.bin"
    assert moved["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert moved["connection"]["alpn"] == "h3"
    assert moved["connection"]["quic_version"] == 1
    assert moved["connection"]["address"].endswith(f":{shop.port}")
    assert 0 < moved["times"]["connect_ms"] < moved["times"]["total_ms"]
    assert nowhere["status"] == 404
    assert done.stderr == b""


def test_a_failure_is_in_the_document_too(shop: Shop, authority: str, tmp_path: Path) -> None:
    done = run(shop, authority, tmp_path, "/", "--json", ca=False)
    (transfer,) = json.loads(done.stdout)["transfers"]
    assert (done.returncode, transfer["error"]["exit_code"]) == (60, 60)
    assert "--ca" in transfer["error"]["mend"]


def test_who_is_not_trusted_nor_there_nor_known_is_said_with_a_mend(shop: Shop, authority: str, tmp_path: Path) -> None:
    def failure(*arguments: str, **options: Any) -> tuple[int, str]:
        done = run(shop, authority, tmp_path, *arguments, **options)
        return done.returncode, done.stderr.decode()

    code, said = failure("/", ca=False)
    assert code == 60
    assert "--insecure" in said
    code, said = failure("https://localhost:1/")
    assert code == 7
    assert "UDP port 1 of localhost" in said
    code, said = failure("https://nobody.invalid/")
    assert code == 6
    assert "--resolve nobody.invalid:443:ADDRESS" in said
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        code, said = failure(f"https://127.0.0.1:{silent.getsockname()[1]}/", "--connect-timeout", "0.2")
    assert code == 28
    assert "is UDP blocked" in said
    code, said = failure("/silent", "--max-time", "0.5")
    assert code == 28
    assert "--max-time" in said


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://localhost/", "only for https"), ("https://u:p@localhost/", "in logs"), ("https://:443/", "no host")],
)
def test_a_url_that_cannot_be_fetched_is_refused(url: str, words: str, shop: Shop, tmp_path: Path) -> None:
    done = run(shop, "", tmp_path, url, ca=False)
    assert done.returncode == 2
    assert words in done.stderr.decode()


def test_resolve_says_where_a_name_is(shop: Shop, authority: str, tmp_path: Path) -> None:
    url = f"https://other.example:{shop.port}/"
    done = run(shop, authority, tmp_path, url, "--resolve", f"other.example:{shop.port}:127.0.0.1")
    assert done.stdout == b"hello"
    assert sent(shop, b":authority") == [b"other.example:%d" % shop.port]


def test_a_file_that_cannot_be_written_is_23(shop: Shop, authority: str, tmp_path: Path) -> None:
    done = run(shop, authority, tmp_path, "/", "-o", "/proc/nowhere/file")
    assert done.returncode == 23
    assert b"/proc/nowhere/file.part" in done.stderr


def test_a_reader_that_leaves_ends_it_quietly(shop: Shop, authority: str, tmp_path: Path) -> None:
    command = [*GET, f"https://localhost:{shop.port}/file", "--ca", authority]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == BODY[:10]
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(20) == 23


def test_an_interrupt_ends_it_even_if_nobody_reads(shop: Shop, authority: str, tmp_path: Path) -> None:
    command = [*GET, f"https://localhost:{shop.port}/endless", "--ca", authority]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == bytes(10)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_server_cannot_write_to_the_terminal(shop: Shop, authority: str, tmp_path: Path) -> None:
    async def handler(request: Any) -> None:
        request.respond([(b":status", b"200"), (b"x-evil", b"a\xc2\x9b31m\xff")], end=True)

    shop._evil = handler  # type: ignore[attr-defined]
    assert b"x-evil: a\\x9b31m\\xff\n" in run(shop, authority, tmp_path, "/evil", "-I").stdout


def test_progress_is_shown_on_a_terminal(shop: Shop, authority: str, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*GET, f"https://localhost:{shop.port}/endless", "-O", "--ca", authority, "--max-time", "1.5"]
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(command, cwd=tmp_path, stderr=theirs, env=environment):
        os.close(theirs)
        said = b""
        try:
            while data := os.read(ours, 4096):
                said += data
        except OSError:  # the other end was closed
            os.close(ours)
    assert re.search(rb"MB  .*B/s", said)
    assert b"--max-time" in said


def test_the_progress_line_says_how_much_how_fast_and_how_long_still() -> None:
    progress = TransferProgress(2, quiet=False)
    progress.announced(3_000_000)
    progress.add(1_500_000)
    assert progress.line(500_000) == "0/2  1.50 MB  500 kB/s"
    progress.announced(3_000_000)
    assert progress.line(50_000) == "0/2  [######..................] 1.50 MB of 6.00 MB  50.0 kB/s  1:30 left"


def test_keys_are_logged_for_wireshark(shop: Shop, authority: str, tmp_path: Path) -> None:
    run(shop, authority, tmp_path, "/", "--keylog", "keys")
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def test_a_second_run_resumes_the_session_and_asks_early(
    shop: Shop, authority: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shown = []
    for _ in range(2):
        done = run(shop, authority, tmp_path, "/file.bin", "--resume", "--json")
        (transfer,) = json.loads(done.stdout)["transfers"]
        shown.append((transfer["connection"]["resumed"], transfer["connection"]["early"], transfer["early"]))
    assert shown == [(False, None, False), (True, True, True)]
    done = run(shop, authority, tmp_path, "/upload", "--resume", "--data", "not early")
    assert b"resumed; nothing was sent early" in done.stderr
    done = run(shop, authority, tmp_path, "/file.bin", "--resume", "-o", "file")
    assert re.search(rb"resumed; \d+ bytes were sent early, and accepted", done.stderr)
    assert (tmp_path / "fairway" / "sessions.json").stat().st_mode & 0o777 == 0o600


def test_sessions_that_cannot_be_kept_are_told_and_nothing_fails(
    shop: Shop, authority: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = run(shop, authority, tmp_path, "/file.bin", "--resume")
    assert (done.returncode, done.stdout) == (0, BODY)
    assert b"sessions are not kept: " in done.stderr
