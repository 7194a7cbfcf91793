"""One cell of the matrix: a client, a server, a case, on a network of their own."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interop import capture
from interop.cases import Case, FailedError, Seen, verify
from interop.certificates import Certificates
from interop.endpoints.environment import PORT, UNSUPPORTED
from interop.network import PREFERRED4, ROOT, Network, NetworkError
from interop.peers import Peer, Task, protocol

PASS, FAIL, NOT_SUPPORTED = "pass", "fail", "not supported"
READY_S = 15.0
STOP_S = 3.0


class _UnsupportedError(Exception):
    """An end cannot do the case; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell. `why` is empty for a pass."""

    case: str
    client: str
    server: str
    verdict: str
    why: str
    protocol: str
    seconds: float
    """From the client's start to its end."""


class Trial:
    """Runs one cell in a directory of its own; `name` tells its network from those beside it."""

    def __init__(
        self, case: Case, client: Peer, server: Peer, directory: Path, name: str, certificates: Certificates
    ) -> None:
        self._case, self._client, self._server = case, client, server
        self._directory = directory
        self._network = Network(name)
        self._protocol = protocol(case.protocol, client, server)
        self._certs = certificates.chain_of(case.chain)
        self._seconds = 0.0
        self._names: list[str] = []

    def run(self) -> Outcome:
        """The outcome; nothing is left but the directory."""
        for role, peer in (("client", self._client), ("server", self._server)):
            reason = peer.cannot(role, self._case.name)
            if reason is not None:
                return self._outcome(NOT_SUPPORTED, reason)
        try:
            self._prepare()
            self._network.up()
            self._compare(self._transfer())
            keylog = self._directory / "keys.log"
            client, server = (capture.read(self._directory / f"{end}.pcap", keylog) for end in ("client", "server"))
            verify(self._case, Seen(client, server))
        except FailedError as error:
            return self._outcome(FAIL, str(error))
        except _UnsupportedError as error:
            return self._outcome(NOT_SUPPORTED, str(error))
        except (NetworkError, capture.CaptureError, OSError) as error:
            return self._outcome(FAIL, f"not tried: {error}")
        except (ValueError, LookupError, StopIteration) as error:  # a capture that shows nothing that was looked for
            return self._outcome(FAIL, f"the capture is not as expected: {error!r}")
        finally:
            self._network.down()
        return self._outcome(PASS, "")

    def _outcome(self, verdict: str, why: str) -> Outcome:
        client, server = self._client.name, self._server.name
        return Outcome(self._case.name, client, server, verdict, why, self._protocol, self._seconds)

    def _prepare(self) -> None:
        chance = random.Random(self._case.name)
        for name in ("www", "downloads"):
            (self._directory / name).mkdir(parents=True)
        for number, size in enumerate(self._case.files):
            name = f"{number}-".ljust(self._case.name_length, "x")
            self._names.append(name)
            (self._directory / "www" / name).write_bytes(chance.randbytes(size))

    def _transfer(self) -> int:
        """Run both ends; the client's exit code."""
        task = Task(self._case.name, self._directory / "www", self._certs, self._directory)
        assert self._server.server is not None
        assert self._client.client is not None
        with (
            self._network.carrying(self._case.link, self._directory),
            self._program("server", [*self._network.server, *self._server.server(task)]) as server,
        ):
            self._await(server)
            begun = time.monotonic()
            command = [*self._network.client, *self._client.client]
            with self._program("client", command) as client:
                try:
                    code = client.wait(self._case.timeout_s)
                except subprocess.TimeoutExpired:
                    raise FailedError(f"not done after {self._case.timeout_s:.0f} s") from None
                finally:
                    self._seconds = time.monotonic() - begun
            if code == UNSUPPORTED:
                raise _UnsupportedError(self._said("client"))
            time.sleep(2 * self._case.link.delay_ms / 1000)  # what is on its way belongs to the capture
            return code

    @contextlib.contextmanager
    def _program(self, role: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        with (self._directory / f"{role}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment(role), stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)
                    break

    def _environment(self, role: str) -> dict[str, str]:
        urls = [f"https://{self._case.host}:{PORT}/{name}" for name in self._names]
        own = {
            "TESTCASE": self._case.name,
            "PROTOCOL": self._protocol,
            "WWW": str(self._directory / "www"),
            "DOWNLOADS": str(self._directory / "downloads"),
            "CERTS": str(self._certs),
            "PREFERRED": PREFERRED4,
            "HOME": str(self._directory),
        }
        if role == "client":
            own |= {"REQUESTS": " ".join(urls), "SSLKEYLOGFILE": str(self._directory / "keys.log")}
        return {name: value for name, value in os.environ.items() if name != "SSLKEYLOGFILE"} | own

    def _await(self, server: subprocess.Popen[bytes]) -> None:
        """Until the server's namespace has a UDP socket on the port."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if server.poll() is not None:
                break
            net = Path(f"/proc/{server.pid}/net")
            if any(f":{PORT:04X} " in (net / kind).read_text() for kind in ("udp", "udp6")):
                return
            time.sleep(0.02)
        if server.poll() == UNSUPPORTED:
            raise _UnsupportedError(self._said("server"))
        raise FailedError(f"the server did not start: {self._said('server')}")

    def _compare(self, code: int) -> None:
        for name in self._names:
            got = self._directory / "downloads" / name
            if not got.exists():
                raise FailedError(f"a file did not come; the client ended with {code}: {self._said('client')}")
            if got.read_bytes() != (self._directory / "www" / name).read_bytes():
                size = (self._directory / "www" / name).stat().st_size
                raise FailedError(
                    f"a file is not the same: {got.stat().st_size} bytes of {size}: {self._said('client')}"
                )

    def _said(self, role: str) -> str:
        lines = (self._directory / f"{role}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing"

    def forget(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self._directory, ignore_errors=True)
