"""What a relay is told, as the words of its command line: they state its work, and anybody can read them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairway.lab.model import Faults

MODULE = "fairway.lab.faults.relay"
"""What `python -m` runs."""

READY_NAME = "fairway-relay"
"""The process's name (`comm`), from when it forwards; one that is still starting may yet end by itself."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """One relay's whole work. `title` is for the person who reads a list of processes."""

    namespace: str
    ports: tuple[str, ...]
    faults: Faults
    title: str = ""


def words(arguments: Arguments) -> list[str]:
    """The command line after the module's name."""
    faults = arguments.faults
    result = ["--namespace", arguments.namespace]
    for port in arguments.ports:
        result += ["--port", port]
    result += ["--delay-ms", repr(float(faults.delay_ms)), "--jitter-ms", repr(float(faults.jitter_ms))]
    result += ["--loss", repr(float(faults.loss)), "--rate-bps", str(int(faults.rate_bps)), "--title", arguments.title]
    return result


def parse(given: Sequence[str]) -> Arguments:
    """The inverse of `words`. ValueError says which word is wrong."""
    if len(given) % 2:
        raise ValueError(f"{given[-1]!r} has no value")
    ports: list[str] = []
    values = {"--namespace": "", "--delay-ms": "0", "--jitter-ms": "0", "--loss": "0", "--rate-bps": "0", "--title": ""}
    for key, value in zip(given[::2], given[1::2], strict=True):
        if key == "--port":
            ports.append(value)
        elif key in values:
            values[key] = value
        else:
            raise ValueError(f"{key!r} is not known")
    faults = Faults(
        delay_ms=float(values["--delay-ms"]),
        jitter_ms=float(values["--jitter-ms"]),
        loss=float(values["--loss"]),
        rate_bps=int(values["--rate-bps"]),
    )
    if not values["--namespace"] or not ports:
        raise ValueError("--namespace and --port are needed")
    return Arguments(values["--namespace"], tuple(ports), faults, values["--title"])


def from_command_line(command: Sequence[str]) -> Arguments | None:
    """What the process with this command line was told, if it is a relay."""
    try:
        start = list(command).index(MODULE)
        if start == 0 or command[start - 1] != "-m":
            return None
        return parse(command[start + 1 :])
    except ValueError:
        return None
