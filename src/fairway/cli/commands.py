"""The command `fairway` and the table of its subcommands. A new one is a file here and a line in the table."""

from __future__ import annotations

import click

from fairway import __version__
from fairway.cli.lazy import Lazy, LazyGroup

HOST, LAB, BOTH, WEB, QUIC, SHELL = (
    "This host",
    "Labs: several hosts on this machine",
    "Hosts and labs",
    "HTTP",
    "QUIC",
    "Shell",
)

SUBCOMMANDS = (
    Lazy("pod", "fairway.cli.pod:pod", "Add, list, show and remove this host's pods.", HOST),
    Lazy("pool", "fairway.cli.pool:pool", "What this host's pods take their addresses from.", HOST),
    Lazy("route", "fairway.cli.route:route", "Routes to other hosts' pods.", HOST),
    Lazy("policy", "fairway.cli.policy:policy", "Who may speak with whom.", HOST),
    Lazy("check", "fairway.cli.check:check", "Find what is not as it should be; --repair mends it.", HOST),
    Lazy("up", "fairway.cli.up:up", "Bring up the lab that a file describes, or change it to that.", LAB),
    Lazy("down", "fairway.cli.down:down", "Take labs down.", LAB),
    Lazy("ls", "fairway.cli.ls:ls", "List the labs, or the members of one.", LAB),
    Lazy("exec", "fairway.cli.execute:execute", "Run a command inside a pod or a lab's node.", BOTH),
    Lazy("ping", "fairway.cli.ping:ping", "Whether everyone in a lab reaches everyone; or A reaches B.", BOTH),
    Lazy("explain", "fairway.cli.explain:explain", "Every stage of a packet's way, and where it ends.", BOTH),
    Lazy("get", "fairway.cli.get:get", "Fetch URLs over HTTP/3.", WEB),
    Lazy("serve", "fairway.cli.serve:serve", "Serve an application or files by HTTP/3, HTTP/2 and HTTP/1.1.", WEB),
    Lazy("perf", "fairway.cli.perf:perf", "Measure QUIC between two places.", QUIC),
    Lazy("qlog", "fairway.cli.qlog:qlog", "Logs of QUIC connections, as qvis reads them.", QUIC),
    Lazy("completion", "fairway.cli.completion:completion", "Print what completes commands in a shell.", SHELL),
)


@click.group(
    cls=LazyGroup,
    subcommands=SUBCOMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n  fairway pod add demo01\n  fairway up two-hosts.toml && fairway ping",
)
@click.version_option(__version__, prog_name="fairway")
def main() -> None:
    """A flat, routed network for pods: every one has an address of its own that works from everywhere."""
