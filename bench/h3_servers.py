"""HTTP/3 servers in processes of their own, with one certificate and one directory of files: who is measured.

Each serves `h3_app.SMALL` under /r/ and the files of the site's directory elsewhere. Fairway and Hypercorn run one
worker; Caddy is told by GOMAXPROCS how many cores it has. ngtcp2's example server, in C, shows what the load generator
can do: it serves files only, so a load on it needs a file for each request.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pycurl

from bench.certificates import Certificate, make_certificate
from bench.h3_app import SMALL

FAIRWAY, HANDLER, CADDY, HYPERCORN, NGTCP2 = "fairway", "fairway without ASGI", "caddy", "hypercorn", "ngtcp2"

READY_S = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_ROOT = Path(__file__).parent.parent

_CADDYFILE = """
{{
  admin off
  auto_https off
  skip_install_trust
}}
https://:{port} {{
  tls {chain} {key}
  respond /r/* "{small}"
  root * {files}
  file_server
}}
"""


class NotHereError(Exception):
    """This server is not installed, or does not start; the message says what it said."""


@dataclass(frozen=True)
class Site:
    """What is served: files, under a certificate for localhost; `directory` is also for the servers' own files."""

    directory: Path
    files: Path = field(init=False)
    certificate: Certificate = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", self.directory / "files")
        self.files.mkdir()
        small = self.files / "r"
        small.mkdir()
        (small / "0").write_bytes(SMALL)
        object.__setattr__(self, "certificate", make_certificate(self.directory))


def _fairway(site: Site, host: str, port: int, application: bool) -> list[str]:
    command = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')", "serve"]
    what = ["bench.h3_app:app"] if application else ["--directory", str(site.files)]
    certificate = ["--certificate", str(site.certificate.chain), "--key", str(site.certificate.key)]
    # No access log: neither of the others writes one unasked.
    return [*command, *what, *certificate, "--host", host, "--port", str(port), "--no-access-log"]


def _handler(site: Site, host: str, port: int, application: bool) -> list[str]:
    certificate = [str(site.certificate.chain), str(site.certificate.key)]
    return [sys.executable, "-m", "bench.h3_handler", host, str(port), *certificate]


def _hypercorn(site: Site, host: str, port: int, application: bool) -> list[str]:
    files = ["--certfile", str(site.certificate.chain), "--keyfile", str(site.certificate.key)]
    binds = ["--bind", f"{host}:{port}", "--quic-bind", f"{host}:{port}"]
    # No worker process: the server is the process itself.
    return [sys.executable, "-m", "hypercorn", "bench.h3_app:app", *binds, *files, "--workers", "0"]


def _caddy(site: Site, host: str, port: int, application: bool) -> list[str]:
    file = site.directory / f"Caddyfile.{port}"
    file.write_text(
        _CADDYFILE.format(
            port=port,
            chain=site.certificate.chain,
            key=site.certificate.key,
            small=SMALL.decode(),
            files=site.files,
        )
    )
    return ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]


def _ngtcp2(site: Site, host: str, port: int, application: bool) -> list[str]:
    quiet = ["-q", "--no-quic-dump", "--no-http-dump", "-d", str(site.files)]
    return ["gtlsserver", *quiet, host, str(port), str(site.certificate.key), str(site.certificate.chain)]


_COMMANDS = {FAIRWAY: _fairway, HANDLER: _handler, HYPERCORN: _hypercorn, CADDY: _caddy, NGTCP2: _ngtcp2}


class Server:
    """A running server; it answers once this is made. Used as a context: the end kills it.

    `cores` are those it may run on; `application` asks Fairway for the ASGI application instead of its own files;
    `prefix` is put before the command (to enter a namespace), and then nothing is asked of it here.
    """

    def __init__(
        self,
        who: str,
        site: Site,
        *,
        host: str = "127.0.0.1",
        cores: Sequence[int] = (),
        application: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:
        self.who = who
        self.host = host
        self.port = _free_port()
        self._log = site.directory / f"{who}.{self.port}.log"
        command = _COMMANDS[who](site, host, self.port, application)
        if shutil.which(command[0]) is None:
            raise NotHereError(f"{command[0]} is not installed")
        if cores:
            command = ["taskset", "-c", ",".join(map(str, cores)), *command]
        environment = os.environ | {
            "GOMAXPROCS": str(len(cores) or os.cpu_count()),
            "HOME": str(site.directory),  # Caddy keeps a little there
            "BENCH_DIRECTORY": str(site.files),
            "PYTHONPATH": str(_ROOT),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*prefix, *command], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._await(site, inside=bool(prefix))
        except BaseException:
            self.stop()
            raise

    def _await(self, site: Site, *, inside: bool) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise NotHereError(f"{self.who} ended at once: {self.said()}")
            if self._listens() if inside else self._answers(site):
                return
            time.sleep(0.05)
        raise NotHereError(f"{self.who} did not answer in {READY_S:g} s: {self.said()}")

    def _listens(self) -> bool:
        """Whether its namespace has a UDP socket on the port."""
        net = Path(f"/proc/{self._process.pid}/net")
        try:
            return any(f":{self.port:04X} " in (net / kind).read_text() for kind in ("udp", "udp6"))
        except OSError:  # it has just ended
            return False

    def _answers(self, site: Site) -> bool:
        """Whether it gives curl the small body, with status 200, by HTTP/3."""
        parts: list[bytes] = []
        curl = pycurl.Curl()
        curl.setopt(pycurl.URL, f"https://localhost:{self.port}/r/0")
        curl.setopt(pycurl.RESOLVE, [f"localhost:{self.port}:{self.host}"])
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_3ONLY)
        curl.setopt(pycurl.CAINFO, str(site.certificate.authority))
        curl.setopt(pycurl.TIMEOUT, 5)
        curl.setopt(pycurl.WRITEFUNCTION, parts.append)
        try:
            curl.perform()
            return curl.getinfo(pycurl.RESPONSE_CODE) == 200 and b"".join(parts) == SMALL
        except pycurl.error:
            return False
        finally:
            curl.close()

    def said(self) -> str:
        """The last line that it wrote."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def processes(self) -> list[int]:
        """Itself and what it started."""
        session = [str(self._process.pid)]
        known = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [process for process in known if _stat(process)[3:4] == session]

    def stop(self) -> None:
        """Kill it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def cpu_s(processes: Sequence[int]) -> float:
    """CPU seconds that these processes have used, ended ones included as long as nobody has waited for them."""
    total = 0
    for process in processes:
        fields = _stat(process)
        if fields:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def busy_s() -> float:
    """CPU seconds that all cores have spent on whatever it was."""
    fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS  # without idle and iowait


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, from the state on; none if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _free_port() -> int:
    """A port that nobody has for UDP nor for TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("", 0))
            port = int(udp.getsockname()[1])
            try:
                tcp.bind(("", port))
            except OSError:
                continue
            return port
