"""python -m bench [--json] [NAME ...]: run benchmarks; without names, all of them."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable

import bench
from bench.result import Result

_NOT_BENCHMARKS = (
    "__main__",
    "agent_process",
    "gtlsclient",
    "h3_app",
    "h3_handler",
    "h3_objects",
    "h3_objects_fairway",
    "h3_servers",
    "iperf",
    "isolation",
    "plot",
    "quic_peers",
    "result",
    "route_nodes",
    "startup_peers",
)


def main() -> int:
    """Run what was asked for; one table, or one JSON object a line, for each."""
    names = [module.name for module in pkgutil.iter_modules(bench.__path__) if module.name not in _NOT_BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Fairway beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)}; none: all")
    parser.add_argument("--json", action="store_true", help="one JSON object a benchmark")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in names]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(names)}")
    for name in arguments.names or names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        run: Callable[[], Result] = importlib.import_module(f"bench.{name}").run
        result = run()
        print(result.as_json() if arguments.json else result.as_table(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
