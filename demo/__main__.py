"""Every step is a command that a person could type; the demo types them, and shows what they print."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = "examples/two-hosts.toml"
LAB = "two-hosts"
FAIRWAY = [str(Path(sys.executable).with_name("fairway"))]
CAPTURE = "tcpdump --immediate-mode -U -l -n -t -c 2 -i eth0 icmp and host 10.0.3.2"


def main() -> int:
    """Bring the reference network up, show it, take it down; 0 if every step did what it should."""
    if os.geteuid() != 0:
        print("the demo makes network namespaces and captures packets: run it as root", file=sys.stderr)
        return 1
    if subprocess.run([*FAIRWAY, "exec", f"{LAB}/node02", "--", "true"], capture_output=True).returncode == 0:
        print(f"the lab {LAB} is running already; end it first: fairway down {LAB}", file=sys.stderr)
        return 1
    started = time.monotonic()
    try:
        steps = [
            ("Two hosts on one link, two pods on each; no bridge, no overlay, no translation.", ["up", FILE]),
            ("What runs.", ["ls"]),
            ("Everybody reaches everybody.", ["ping"]),
            ("A pod has one address, and one route: to its host.", ["exec", "demo01", "--", "ip", "route"]),
            (
                "Its host has one route to it, and one to the other host's pods.",
                ["exec", "node03", "--", "ip", "route"],
            ),
        ]
        good = all(_step(title, command) for title, command in steps)  # the first that fails ends the showing
        good &= _capture()
        good &= _step("Every stage that a packet passes, there and back.", ["explain", "demo01", "demo03"])
    finally:
        ended = _step("And away again.", ["down", LAB])
    print(f"\n{'All steps succeeded' if good and ended else 'A step FAILED'}, in {time.monotonic() - started:.1f} s.")
    print(
        "Next: `.venv/bin/fairway up examples/two-hosts.toml` leaves it running for you; README.md goes on from there."
    )
    return 0 if good and ended else 1


def _step(title: str, words: list[str]) -> bool:
    _say(title, f"fairway {shlex.join(words)}")
    return subprocess.run([*FAIRWAY, *words], cwd=ROOT).returncode == 0


def _capture() -> bool:
    """Show that a packet from demo01 still bears demo01's address when it comes to the other host."""
    _say("On node02's own interface, a packet from demo01 still bears 10.0.1.2.", f"fairway exec node02 -- {CAPTURE}")
    capture = subprocess.Popen(
        [*FAIRWAY, "exec", "node02", "--", *CAPTURE.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert capture.stderr is not None
    while (line := capture.stderr.readline()) and "listening" not in line:
        pass
    ping = [*FAIRWAY, "ping", "demo01", "demo03", "--count", "1"]
    reached = subprocess.run(ping, capture_output=True).returncode == 0
    try:
        said, _ = capture.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        capture.kill()
        said, _ = capture.communicate()
    print(said, end="")
    return reached and "IP 10.0.1.2 > 10.0.3.2: ICMP echo request" in said


def _say(title: str, command: str) -> None:
    print(f"\n{title}\n$ {command}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
