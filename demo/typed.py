"""Commands as a person types them: shown, run, and what they printed kept for the table at the end."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAIRWAY = str(Path(sys.executable).with_name("fairway"))
TIMEOUT_S = 60.0


class StepError(Exception):
    """A step did not do what it should."""


def say(title: str) -> None:
    """What comes next."""
    print(f"\n{title}", flush=True)


def run(*words: str, quiet: bool = False) -> str:
    """Show the command, run it, show and return what it prints; StepError if it fails. `quiet`: do not show it."""
    _show(words)
    done = subprocess.run(_command(words), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    if not quiet or done.returncode:
        print(done.stdout, end="", flush=True)
    if done.returncode:
        print(done.stderr, end="", file=sys.stderr, flush=True)
        raise StepError(f"`{shlex.join(words)}` ended with {done.returncode}")
    return done.stdout


def begin(*words: str) -> subprocess.Popen[str]:
    """Show the command and start it, with a pipe for what it prints."""
    _show(words, " &")
    return subprocess.Popen(
        _command(words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    )


def line_of(process: subprocess.Popen[str], words: str) -> str:
    """The first line of what the process prints that has `words` in it; StepError if it ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise StepError(f"{shlex.join(map(str, process.args))} ended before it said {words!r}")  # type: ignore[arg-type]


def result_of(process: subprocess.Popen[str]) -> str:
    """What a process that was begun printed, when it has ended well."""
    try:
        said, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise StepError(f"{process.args} did not end") from None
    if process.returncode:
        raise StepError(f"{process.args} ended with {process.returncode}: {said}")
    return said


def end(process: subprocess.Popen[str]) -> None:
    """End a process that was begun, if it has not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _command(words: Sequence[str]) -> list[str]:
    """The words with `fairway` as it is installed beside this Python; a step within `exec` may call it too."""
    return [FAIRWAY if word == "fairway" else word for word in words]


def _show(words: Sequence[str], after: str = "") -> None:
    print(f"$ {shlex.join(words)}{after}", flush=True)
