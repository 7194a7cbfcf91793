"""Logs and metrics of real connections over loopback."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest

from fairway.aio import QuicConnection, Server, UsageError, connect, http3, serve
from fairway.aio.metrics import QuicCollector, serve_metrics
from fairway.cli.commands import main
from fairway.quic.observe.qvis import records
from fairway.tls import self_signed_identity

IDENTITY = self_signed_identity(["localhost", "127.0.0.1"])


async def echo(connection: QuicConnection) -> None:
    async for stream in connection.incoming_streams():
        await stream.send(await stream.receive_all(1 << 20), end=True)


def talk(
    *,
    client_qlog: Path | None = None,
    server_qlog: Path | None = None,
    then: Callable[[Server[Any]], Any] | None = None,
) -> Any:
    """One connection that says hello; `then` looks at the server before it closes."""

    async def run() -> Any:
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=[IDENTITY], qlog=server_qlog) as server:
            options: dict[str, Any] = {"alpn": "echo", "verify": False, "qlog": client_qlog}
            async with connect("127.0.0.1", server.port, **options) as connection:
                stream = await connection.open_stream()
                await stream.send(b"hello" * 1000, end=True)
                assert await stream.receive_all(1 << 20) == b"hello" * 1000
            await asyncio.gather(*(connection.wait_closed() for connection in server.connections))
            return then(server) if then is not None else None

    return asyncio.run(run())


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition("_")[2] for path in folder.iterdir())


def test_both_ends_write_a_file_that_is_whole_when_they_are_done(tmp_path: Path) -> None:
    talk(client_qlog=tmp_path, server_qlog=tmp_path)
    assert names(tmp_path) == ["client.sqlog", "server.sqlog"]
    connections = {path.name.partition("_")[0] for path in tmp_path.iterdir()}
    assert len(connections) == 1
    for path in tmp_path.iterdir():
        log = records(path.read_bytes())
        assert log[0]["trace"]["common_fields"]["group_id"] in connections
        assert path.read_bytes().endswith(b"}\n")
        assert [record["name"] for record in log[1:]].count("quic:connection_closed") == 1
        frames = [frame for record in log[1:] for frame in record["data"].get("frames", ())]
        assert any(frame["frame_type"] == "connection_close" for frame in frames)


def test_qlogdir_asks_for_logs_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLOGDIR", str(tmp_path / "made" / "here"))
    talk()
    assert names(tmp_path / "made" / "here") == ["client.sqlog", "server.sqlog"]


def test_nobody_asked_and_there_is_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QLOGDIR", raising=False)
    monkeypatch.chdir(tmp_path)
    talk()
    assert not list(tmp_path.iterdir())


def test_http_is_logged_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLOGDIR", str(tmp_path))

    async def hello(request: http3.Request) -> None:
        request.respond([(b":status", b"200")], b"hello", end=True)

    async def run() -> None:
        async with (
            http3.serve(hello, "127.0.0.1", 0, identities=[IDENTITY]) as server,
            http3.connect("127.0.0.1", server.port, server_name="localhost", verify=False) as connection,
        ):
            response = await connection.request("GET", "localhost")
            assert await response.receive_all() == b"hello"

    asyncio.run(run())
    assert names(tmp_path) == ["client.sqlog", "server.sqlog"]


def test_a_directory_that_goes_away_costs_the_log_and_not_the_connection(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    said: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=[IDENTITY], qlog=folder) as server:
            dialer = connect("127.0.0.1", server.port, alpn="echo", verify=False, qlog=folder)
            shutil.rmtree(folder)
            async with dialer as connection:
                stream = await connection.open_stream()
                await stream.send(b"hello", end=True)
                assert await stream.receive_all(100) == b"hello"

    asyncio.run(run())
    assert [type(context["exception"]) for context in said] == [FileNotFoundError] * 2
    assert all("observer" in context["message"] for context in said)


def test_where_no_files_can_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        connect("127.0.0.1", 1, alpn="echo", qlog=tmp_path / "file")


def test_logs_of_both_ends_become_one_file_for_qvis(tmp_path: Path) -> None:
    talk(client_qlog=tmp_path, server_qlog=tmp_path)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    result = CliRunner().invoke(main, ["qlog", *files, "-o", str(tmp_path / "both.qlog")])
    assert result.exit_code == 0, result.output
    log = json.loads((tmp_path / "both.qlog").read_text())
    assert [trace["vantage_point"]["type"] for trace in log["traces"]] == ["client", "server"]
    (tmp_path / "broken").write_text("nothing")
    result = CliRunner().invoke(main, ["qlog", str(tmp_path / "broken")])
    assert result.exit_code == 1
    assert "broken: no JSON text sequence" in result.output


# Metrics


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return str(response.read().decode())


def test_metrics_are_what_the_server_counted() -> None:
    def look(server: Server[Any]) -> tuple[dict[str, float], int]:
        collector = QuicCollector()
        collector.add("echo", server)
        registry = CollectorRegistry()
        registry.register(collector)
        lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}, len(lines)

    metrics, count = talk(then=look)
    assert metrics['fairway_quic_connections_accepted_total{server="echo"}'] == 1
    assert metrics['fairway_quic_handshakes_total{result="completed",server="echo"}'] == 1
    assert metrics['fairway_quic_streams_opened_by_peer_total{server="echo"}'] == 1
    assert metrics['fairway_quic_bytes_sent_total{server="echo"}'] > 5000
    assert metrics['fairway_quic_packets_received_total{server="echo"}'] > 5
    assert count == len(metrics)


def test_a_scrape_gets_the_metrics() -> None:
    def look(server: Server[Any]) -> str:
        collector = QuicCollector()
        collector.add("echo", server)
        with serve_metrics(collector, "127.0.0.1", 0) as port:
            text = scrape(port)
            collector.remove("echo")
            assert 'server="echo"' not in scrape(port)
        return text

    assert 'fairway_quic_connections_accepted_total{server="echo"} 1.0' in talk(then=look)


def test_without_prometheus_client_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    with pytest.raises(UsageError, match=r"pip install 'fairway\[metrics\]'"):
        QuicCollector()
