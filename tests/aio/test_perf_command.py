"""`fairway perf serve` and `fairway perf get`, as two processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fairway.cli.perf import Size, perf

PERF = [sys.executable, "-c", "from fairway.cli.perf import perf; perf()"]


@pytest.fixture(params=[(), ("--workers", "2")], ids=["alone", "two workers"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    environment = os.environ | {"HOME": str(tmp_path), "SSLKEYLOGFILE": str(tmp_path / "keys")}
    command = [*PERF, "serve", "--self-signed", "--host", "127.0.0.1", "--port", "0", *request.param]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        certificate = process.stderr.readline()
        assert "made a certificate" in certificate
        (number,) = re.findall(r"port (\d+)", process.stderr.readline())
        saved = tmp_path / ".cache" / "fairway" / "perf-0.pem"
        saved.rename(saved.with_name(f"perf-{number}.pem"))
        yield int(number)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def get(port: int, tmp_path: Path, *options: str) -> dict[str, Any]:
    command = [*PERF, "get", "127.0.0.1", "--port", str(port), "--json", *options]
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_bytes_go_both_ways_and_handshakes_are_counted(port: int, tmp_path: Path) -> None:
    assert get(port, tmp_path, "--size", "20M", "--streams", "3")["bytes"] == 20_000_000
    assert get(port, tmp_path, "--size", "5MiB", "--upload")["gbit_per_s"] > 0
    assert get(port, tmp_path, "--handshakes", "5")["handshakes"] == 5


@pytest.mark.parametrize(("given", "spoken"), [("1", 1), ("2", 2), ("2,1", 2), ("1,2", 1)])
def test_a_version_can_be_asked_for(port: int, tmp_path: Path, given: str, spoken: int) -> None:
    assert get(port, tmp_path, "--size", "1k", "--quic-version", given)["quic_version"] == spoken


@pytest.mark.parametrize("given", ["", "3", "1,1", "1,", "v2"])
def test_versions_that_there_are_not(given: str) -> None:
    result = CliRunner().invoke(perf, ["get", "127.0.0.1", "--quic-version", given])
    assert result.exit_code == 2
    assert "as in 2,1" in result.output


def test_the_second_run_resumes_the_first_and_asks_early(port: int, tmp_path: Path) -> None:
    first, second = (get(port, tmp_path, "--size", "1M", "--resume") for _ in range(2))
    assert (first["resumed"], first["early"], first["early_bytes"]) == (False, None, 0)
    assert (second["resumed"], second["early"]) == (True, "accepted")
    assert second["early_bytes"] > 17  # the request


def test_half_way_it_moves_to_another_address_with_one_handshake(port: int, tmp_path: Path) -> None:
    done = get(port, tmp_path, "--size", "20M", "--migrate-to", "127.0.0.2")
    moved = done["moved"]
    assert moved["from"]["local"].startswith("127.0.0.1:")
    assert moved["to"]["local"].startswith("127.0.0.2:")
    assert moved["after_bytes"] >= 10_000_000
    assert (moved["error"], done["handshakes"]) == (None, 1)
    assert get(port, tmp_path, "--size", "5M", "--migrate-to", "192.0.2.77")["moved"]["error"]


def test_nobody_there_is_one_line() -> None:
    result = CliRunner().invoke(perf, ["get", "127.0.0.1", "--port", "1", "--insecure"])
    assert result.exit_code == 1
    assert "Connection refused" in result.output


@pytest.mark.parametrize(("text", "size"), [("1000", 1000), ("10M", 10**7), ("1GiB", 1 << 30), ("1.5k", 1500)])
def test_sizes(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size
