"""One call of a plugin: environment and stdin in; exit code, stdout and stderr out; and what the SPEC says of those."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnikit.case import BehaviourError, expect

DEADLINE_S = 20.0
"""A plugin that takes longer has failed: kubelet gives a whole pod sandbox four minutes, users less."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a plugin answered. The methods that return JSON fail the case where it is not what the SPEC says."""

    command: str
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float

    def succeeded(self) -> Reply:
        """Itself, if the exit code is 0."""
        expect(self.exit_code == 0, f"{self.command} failed: {self._words()}")
        return self

    def object(self) -> dict[str, Any]:
        """The one JSON object on stdout, and there is nothing but it."""
        try:
            found = json.loads(self.stdout)
        except ValueError:
            raise BehaviourError(f"{self.command}: stdout is not one JSON object: {self._words()}") from None
        expect(isinstance(found, dict), f"{self.command}: stdout is not a JSON object: {self._words()}")
        return dict(found)

    def silent(self) -> Reply:
        """Itself, if it succeeded and there is nothing on stdout: what commands without a result answer."""
        self.succeeded()
        expect(not self.stdout.strip(), f"{self.command}: stdout should be empty, and is {_short(self.stdout)}")
        return self

    def error(self) -> dict[str, Any]:
        """The error object, if the call failed, and told it as the SPEC says: `code` and `msg` on stdout."""
        expect(self.exit_code != 0, f"{self.command} succeeded, where an error was due")
        expect(self.exit_code > 0, f"{self.command} was ended by the signal {-self.exit_code}")
        found = self.object()
        code = found.get("code")
        expect(
            isinstance(code, int) and code > 0, f"{self.command}: the error's code is {code!r}, not a number above 0"
        )
        expect(isinstance(found.get("msg"), str) and found["msg"], f"{self.command}: the error has no msg: {found}")
        return found

    def error_code(self, *codes: int) -> dict[str, Any]:
        """The error object, if its code is one of those."""
        found = self.error()
        wanted = " or ".join(str(code) for code in codes)
        told = f"{found['msg']}: {found['details']}" if found.get("details") else found["msg"]
        expect(found["code"] in codes, f"{self.command}: the error's code is {found['code']}, not {wanted}: {told!r}")
        return found

    def _words(self) -> str:
        text = _short(self.stdout) or _short(self.stderr) or "no output"
        return f"exit code {self.exit_code}, {text}"


def call(program: Path, environment: dict[str, str], stdin: bytes, *, kill_after: float | None = None) -> Reply:
    """Run a plugin as a runtime does: nothing in its environment but what is given, and a PATH.

    With `kill_after` it is killed after so many seconds, with every process that it started, if it still runs.
    """
    path = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}
    started = time.monotonic()
    process = subprocess.Popen(
        [str(program)],
        env=path | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    command = environment.get("CNI_COMMAND", "a call")
    try:
        out, err = process.communicate(stdin, timeout=DEADLINE_S if kill_after is None else kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if kill_after is None:
            raise BehaviourError(f"{command} did not end within {DEADLINE_S:.0f} seconds") from None
    return Reply(command, process.returncode, out, err, time.monotonic() - started)


def _short(text: bytes) -> str:
    one_line = " ".join(text.decode(errors="replace").split())
    return one_line if len(one_line) <= 240 else one_line[:237] + "..."
