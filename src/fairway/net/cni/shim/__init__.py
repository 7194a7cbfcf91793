"""The executable that a runtime starts, as text: in Perl, which starts in a millisecond, else in Python."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

from fairway.net.cni.versions import SUPPORTED
from fairway.net.model.errors import UsageError

MARK = "fairway cni plugin"
"""In the second line of every shim: that it is Fairway's to overwrite and to remove."""

_SOURCES = {"perl": "shim.pl", "python": "shim.py"}
_PERL = Path("/usr/bin/perl")


def best() -> str:
    """Which shim suits this machine: "perl" or "python"."""
    return "perl" if _PERL.exists() else "python"


def source(kind: str, socket: Path, pending: Path) -> str:
    """The shim's text, for the agent at `socket`; deletions that find none are noted in `pending`."""
    if kind not in _SOURCES:
        raise UsageError(f"there is no shim {kind!r}", mend=f"choose one of {', '.join(_SOURCES)}")
    if kind == "perl" and not _PERL.exists():
        raise UsageError(f"{_PERL} is not there", mend="apt-get install perl-base, or: --shim python")
    for path in (socket, pending):
        if not str(path).isascii() or set(str(path)) & set("'\"\\$@\n"):
            raise UsageError(f"the path {str(path)!r} cannot be written into a program", mend="choose a plainer one")
    text = (files(__package__) / _SOURCES[kind]).read_text()
    listed = ",".join(json.dumps(version) for version in SUPPORTED)
    text = text.replace("@SOCKET@", str(socket)).replace("@PENDING@", str(pending)).replace("@VERSIONS@", listed)
    return text if kind == "perl" else _with_interpreter(text)


def _with_interpreter(text: str) -> str:
    """With the system's Python where there is one: a virtual environment's may go, and starts slower."""
    system = Path("/usr/bin/python3")
    interpreter = system if system.exists() else Path(shutil.which("python3") or sys.executable)
    return text.replace("/usr/bin/python3", str(interpreter), 1)
