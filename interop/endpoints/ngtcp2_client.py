"""ngtcp2's client, once for each connection of the case: `python -m interop.endpoints.ngtcp2_client`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from interop.endpoints.environment import PORT, RETURNING, Environment, environment

CHACHA20 = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"
OF_CASE = {
    "chacha20": [f"--ciphers={CHACHA20}"],
    "keyupdate": ["--key-update=100ms"],
    "transfer": ["--max-data=96K", "--max-stream-data-bidi-local=64K"],
    "resumption": ["--disable-early-data"],
    "longrtt": ["--handshake-timeout=60s"],
}


def _command(asked: Environment, paths: tuple[str, ...], kept: Path) -> list[str]:
    options = ["-q", "--no-quic-dump", "--no-http-dump", "--exit-on-all-streams-close", f"--download={asked.downloads}"]
    options += ["--handshake-timeout=60s"] if asked.case.startswith("handshake") else []
    if asked.case in RETURNING:
        options += [f"--session-file={kept / 'session'}", f"--tp-file={kept / 'parameters'}"]
    urls = [f"https://{asked.host}:{PORT}{path}" for path in paths]
    return ["gtlsclient", *options, *OF_CASE.get(asked.case, []), asked.host, str(PORT), *urls]


def main() -> int:
    """Do the environment's case; the exit code of the last one that failed."""
    asked = environment()
    code = 0
    for paths in asked.connections:
        done = subprocess.run(_command(asked, paths, asked.downloads.parent), capture_output=True, text=True)
        if done.returncode:
            print(done.stderr[-500:], file=sys.stderr)
            code = done.returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
