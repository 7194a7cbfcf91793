"""python -m interop [--client NAME] [--server NAME] [--case NAME] [--quick] [--json] [--write]: run the cases."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bench.isolation import isolated

from interop.cases import CASES
from interop.certificates import Certificates
from interop.matrix import DOCS, Matrix, Progress
from interop.network import write_hosts
from interop.peers import FAIRWAY, PEERS, known
from interop.trial import FAIL, Outcome, Trial

NEEDED = ("tshark", "ip", "nsenter")
QUICK = ("handshake", "retry", "zerortt", "rebind-port")


def pairs(clients: list[str], servers: list[str]) -> Iterator[tuple[str, str]]:
    """Client and server: Fairway with everybody, unless others were asked for."""
    for client in clients or PEERS:
        for server in servers or PEERS:
            ours = FAIRWAY in (client, server)
            alone = client == "caddy" or server == "curl"
            if (ours or (clients and servers)) and not alone:
                yield client, server


def main() -> int:
    """Run what was asked for; 1 if a case failed, but for what is known to be a peer's fault."""
    parser = argparse.ArgumentParser(prog="python -m interop", description=__doc__)
    parser.add_argument("--client", action="append", choices=PEERS, default=[], help="only this client (repeatable)")
    parser.add_argument("--server", action="append", choices=PEERS, default=[], help="only this server (repeatable)")
    parser.add_argument("--case", action="append", choices=CASES, default=[], help="only this case (repeatable)")
    parser.add_argument("--quick", action="store_true", help=f"the cases {', '.join(QUICK)} only")
    parser.add_argument("--jobs", type=int, default=4, help="cells at the same time [4]")
    parser.add_argument(
        "--keep", type=Path, help="keep captures, key logs and what the programs said in this directory"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a cell instead of the table")
    parser.add_argument("--write", action="store_true", help=f"write the whole matrix to {DOCS.name}")
    arguments = parser.parse_args()
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        parser.error(f"needs {', '.join(missing)}: make setup")
    cases = arguments.case or list(QUICK if arguments.quick else CASES)
    chosen = [(case, *pair) for pair in pairs(arguments.client, arguments.server) for case in cases]
    outcomes = isolated(lambda: _run(chosen, arguments.jobs, arguments.keep))
    matrix = Matrix(outcomes)
    if arguments.json:
        for outcome in outcomes:
            print(json.dumps(asdict(outcome)))
    else:
        print(matrix.text())
    if arguments.write:
        DOCS.write_text(matrix.document())
    failed = [outcome for outcome in outcomes if outcome.verdict == FAIL]
    return int(any(known(outcome.client, outcome.server, outcome.case) is None for outcome in failed))


def _run(chosen: list[tuple[str, str, str]], jobs: int, keep: Path | None) -> list[Outcome]:
    write_hosts()
    with tempfile.TemporaryDirectory(prefix="interop-") as made:
        directory = keep or Path(made)
        certificates = Certificates(directory / "certificates")
        for case in {case for case, _, _ in chosen}:
            certificates.chain_of(CASES[case].chain)
        progress = Progress(len(chosen))

        def one(numbered: tuple[int, tuple[str, str, str]]) -> Outcome:
            number, (case, client, server) = numbered
            place = directory / f"{client}-{server}-{case}"
            trial = Trial(CASES[case], PEERS[client], PEERS[server], place, f"i{number}", certificates)
            outcome = trial.run()
            if keep is None:
                trial.forget()
            progress.done(outcome)
            return outcome

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, enumerate(chosen)))


if __name__ == "__main__":
    sys.exit(main())
