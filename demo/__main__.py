"""The project's main job, shown: every step is a command that a person could type; the demo types them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.typed import FAIRWAY, ROOT, StepError, begin, end, line_of, result_of, run, say

FILE = "examples/two-hosts.toml"
LAB = "two-hosts"
CAPTURE = "tcpdump --immediate-mode -U -l -n -t -c 2 -i eth0 icmp and host 10.0.3.2"
URL = "https://10.0.1.2:4433"
SIZES = {"small.bin": 6_000_000, "large.bin": 24_000_000}
FAULTS = {"delay": "5ms", "loss": "0.5%"}
MOVE_AFTER = 2_000_000
PINGS = 200

Table = list[tuple[str, str]]


def main() -> int:
    """Show the reference network whole; 0 if every step did what it should."""
    if os.geteuid() != 0:
        print("the demo makes network namespaces and captures packets: run it as root", file=sys.stderr)
        return 1
    running = json.loads(subprocess.run([FAIRWAY, "ls", "--json"], capture_output=True, check=True).stdout)
    if any(lab["name"] == LAB for lab in running["labs"]):
        print(f"the lab {LAB} is running already; end it first: fairway down {LAB}", file=sys.stderr)
        return 1
    started = time.monotonic()
    table: Table = []
    failed = ""
    try:
        with tempfile.TemporaryDirectory(prefix="fairway-demo-") as directory:
            _network(table)
            _packets(table)
            _downloads(Path(directory), table)
            _kill_an_agent(table)
    except (StepError, subprocess.TimeoutExpired) as error:
        failed = str(error)
    finally:
        say("And away again.")
        ended = subprocess.run([FAIRWAY, "down", LAB]).returncode == 0
    _summary(table, time.monotonic() - started, failed if ended else failed or "the lab could not be taken down")
    return 1 if failed or not ended else 0


def _network(table: Table) -> None:
    say("Two hosts on one link, two pods on each, an agent on each host; no bridge, no overlay, no translation.")
    started = time.monotonic()
    run("fairway", "up", FILE)
    table.append(("two hosts, four pods, two agents that found each other", f"{time.monotonic() - started:.1f} s"))
    run("fairway", "ls", LAB)
    say("The agents have told each other what is where, over QUIC. Nobody typed a route.")
    run("fairway", "exec", "node02", "--", "fairway", "peers")
    run("fairway", "exec", "node02", "--", "fairway", "routes")
    run("fairway", "exec", "node03", "--", "ip", "route")
    say("Everybody reaches everybody.")
    run("fairway", "ping")
    pairs = json.loads(subprocess.run([FAIRWAY, "ping", "--json"], capture_output=True, check=True).stdout)["summary"]
    reached, all_pairs = (sum(each[key] for each in pairs.values()) for key in ("reached", "pairs"))
    table.append(("pairs of pods and hosts that reach each other", f"{reached} of {all_pairs}"))


def _packets(table: Table) -> None:
    say("On node02's own interface, a packet from demo01 still bears 10.0.1.2.")
    capture = begin("fairway", "exec", "node02", "--", *CAPTURE.split())
    try:
        line_of(capture, "listening")
        run("fairway", "ping", "demo01", "demo03", "--count", "1")
        said = result_of(capture)
    finally:
        end(capture)
    print("".join(f"{line}\n" for line in said.splitlines() if line.startswith("IP ")), end="")
    if "IP 10.0.1.2 > 10.0.3.2: ICMP echo request" not in said:
        raise StepError("the other host did not see the sender's own address")
    table.append(("the sender that the other host sees", "10.0.1.2, the pod's own"))
    say("Every stage that a packet passes, there and back.")
    run("fairway", "explain", "demo01", "demo03")


def _downloads(directory: Path, table: Table) -> None:
    say("The link gets a delay of 5 ms each way and loses one packet in 200; only that is changed.")
    text = (ROOT / FILE).read_text()
    faults = "".join(f"{key} = {json.dumps(value)}\n" for key, value in FAULTS.items())
    lossy = directory / Path(FILE).name
    lossy.write_text(text.replace("\n[pods]", f"{faults}\n[pods]"))
    print(f"$ cp {FILE} {lossy}     # and in [links.lan]: " + ", ".join(faults.splitlines()))
    run("fairway", "up", str(lossy))
    site, got = directory / "site", directory / "got"
    site.mkdir()
    got.mkdir()
    for name, size in SIZES.items():
        (site / name).write_bytes(os.urandom(size))
    say("demo01 serves a directory by HTTP/3; demo03, on the other host, downloads from it.")
    with _serving(site):
        done = json.loads(run(*_get("small.bin", got), quiet=True))
        table.append(("HTTP/3 over 10 ms and 0.5 % loss, bytes verified", _verify(done, site / "small.bin")))
        say("Again, and in the middle of it demo01 moves to the other host.")
        download = begin(*_get("large.bin", got))
        try:
            so_far = _wait_for(got, MOVE_AFTER, download)
            moved = run("fairway", "pod", "move", "demo01", "--to", "node02")
            done = json.loads(result_of(download))
        finally:
            end(download)
        verified = _verify(done, site / "large.bin")
    table.append((f"demo01 moved after {so_far / 1e6:.0f} MB; the same connection, bytes verified", verified))
    (gap,) = (line.split(maxsplit=1)[1] for line in moved.splitlines() if line.startswith("gap "))
    table.append(("for how long demo01 was not to be reached (the link loses some by itself)", gap))
    run("fairway", "ls", LAB)
    say("The file that was brought up first says otherwise: the link is clean again, and demo01 goes home.")
    run("fairway", "up", FILE)


@contextmanager
def _serving(site: Path) -> Iterator[None]:
    words = ("fairway", "exec", "demo01", "--", "fairway", "serve", "--directory", str(site), "--host", "10.0.1.2")
    server = begin(*words, "--no-access-log", "--self-signed")
    try:
        line_of(server, "self-signed certificate")
        yield
    finally:
        end(server)


def _get(name: str, into: Path) -> list[str]:
    words = ["fairway", "exec", "demo03", "--", "fairway", "get", "-k", "--sha256", "--json"]
    return [*words, "-o", str(into / name), f"{URL}/{name}"]


def _wait_for(got: Path, size: int, download: subprocess.Popen[str]) -> int:
    """How much of the download is there once it is `size`."""
    while download.poll() is None:
        here = sum(each.stat().st_size for each in got.glob("large.bin*"))
        if here >= size:
            return here
        time.sleep(0.02)
    raise StepError("the download was over before the move")


def _verify(done: dict[str, Any], source: Path) -> str:
    """That one request has brought all bytes, and how fast."""
    (transfer,) = done["transfers"]
    data = source.read_bytes()
    if transfer["sha256"] != hashlib.sha256(data).hexdigest() or transfer["bytes_received"] != len(data):
        raise StepError(f"{source.name} did not arrive as it is: {transfer}")
    seconds = transfer["times"]["total_ms"] / 1000
    shown = f"{len(data) / 1e6:.0f} MB in {seconds:.1f} s by {transfer['http_version']}"
    print(f"{source.name}: {shown}, sha256 {transfer['sha256'][:16]}... as served")
    return shown


def _kill_an_agent(table: Table) -> None:
    say(f"An agent is killed while {PINGS} echoes go from demo01 to demo03: traffic does not pass through it.")
    labs = json.loads(subprocess.run([FAIRWAY, "ls", "--json"], capture_output=True, check=True).stdout)["labs"]
    (agent,) = (
        node["agent"]["pid"]
        for lab in labs
        if lab["name"] == LAB
        for node in lab["nodes"]
        if node["name"] == "node02" and node["agent"]
    )
    pings = begin("fairway", "ping", "demo01", "demo03", "--count", str(PINGS), "--interval", "0.02")
    try:
        print("...", line_of(pings, "10.0.3.2"), sep="\n", end="")
        print(f"$ kill -KILL {agent}     # node02's agent", flush=True)
        os.kill(agent, signal.SIGKILL)
        last = result_of(pings).splitlines()[-1]
    finally:
        end(pings)
    print(f"...\n{last}")
    if f"{PINGS} of {PINGS} echoes came back" not in last:
        raise StepError("traffic has noticed that an agent was killed")
    table.append(("echoes that came back while node02's agent was killed", f"{PINGS} of {PINGS}"))
    run("fairway", "ls", LAB)
    say("It is started again, and takes over what it finds.")
    run("fairway", "up", FILE)
    run("fairway", "exec", "node02", "--", "fairway", "check")


def _summary(table: Table, seconds: float, failed: str) -> None:
    width = max((len(what) for what, _ in table), default=0)
    say("What was shown")
    for what, result in table:
        print(f"  {what:<{width}}  {result}")
    print(f"\nA step FAILED: {failed}" if failed else f"\nAll steps succeeded, in {seconds:.0f} s.")
    print(
        "Next: `.venv/bin/fairway up examples/two-hosts.toml` leaves it running; README.md goes on from there,\n"
        "docs/peers.md makes a network of real hosts, docs/topology.md a lab of your own."
    )


if __name__ == "__main__":
    sys.exit(main())
