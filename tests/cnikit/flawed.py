"""Plugins with one flaw each, made of Debian's `ptp`: what the kit must notice.

The file is run under the name of the flaw. It speaks 1.1.0 too, so that flaws of GC and STATUS can be shown.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PTP = "/usr/lib/cni/ptp"
FLAW = Path(sys.argv[0]).name
COMMAND = os.environ.get("CNI_COMMAND", "")
ADDED = Path("/run/flawed")  # an attachment a file: what GC may take away


def main() -> int:
    stdin = sys.stdin.buffer.read()
    if FLAW == "deaf" and COMMAND == "CHECK":
        return 0
    if FLAW == "forgetful" and COMMAND == "DEL":
        return 0
    if FLAW == "demanding" and COMMAND == "DEL" and not os.environ.get("CNI_NETNS"):
        return failure(4, "CNI_NETNS is required")
    if COMMAND == "STATUS":
        return 0
    if COMMAND == "GC":
        return 0 if FLAW != "ruthless" else delete_everything(stdin)
    asked, answer = call(COMMAND, stdin)
    if FLAW == "cheerful" and COMMAND == "ADD" and answer.returncode:
        print(answer.stdout.decode())
        return 0
    if COMMAND == "ADD" and answer.returncode == 0:
        ADDED.mkdir(exist_ok=True)
        (ADDED / os.environ["CNI_CONTAINERID"]).write_text(json.dumps(dict(os.environ)))
    print(changed(asked, answer.stdout.decode()))
    return answer.returncode


def call(
    command: str, stdin: bytes, environment: dict[str, str] | None = None
) -> tuple[str, subprocess.CompletedProcess[bytes]]:
    """Call ptp, in 1.0.0 where 1.1.0 was asked for; returns the version that was."""
    text = stdin.decode(errors="replace")
    asked = "1.1.0" if '"cniVersion": "1.1.0"' in text else ""
    variables = (environment or dict(os.environ)) | {"CNI_COMMAND": command}
    return asked, subprocess.run(
        [PTP], input=text.replace("1.1.0", "1.0.0").encode(), env=variables, stdout=subprocess.PIPE
    )


def changed(asked: str, text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if "supportedVersions" in found:
        found["supportedVersions"].append("1.1.0")
    elif asked:
        found["cniVersion"] = asked
    if COMMAND == "ADD" and "ips" in found:
        if FLAW == "stuck":
            found["ips"][0]["address"] = "10.99.0.2/16"
        if FLAW == "mistaken":
            found["interfaces"][1]["mac"] = "02:00:00:00:00:01"
        if FLAW == "old-fashioned":
            found["cniVersion"] = "0.3.0"
        if FLAW == "talkative":
            return "the container was added\n" + json.dumps(found)
    return json.dumps(found)


def delete_everything(stdin: bytes) -> int:
    for file in ADDED.iterdir():
        call("DEL", stdin, json.loads(file.read_text()))
    return 0


def failure(code: int, message: str) -> int:
    print(json.dumps({"cniVersion": "1.0.0", "code": code, "msg": message}))
    return 1


sys.exit(main())
