"""`fairway qlog`: logs of connections, as qvis reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

import click

from fairway.net.model.errors import FairwayError
from fairway.quic.observe.qvis import for_qvis, records


@click.command(epilog="\b\nExample:\n  fairway qlog logs/*.sqlog -o connection.qlog")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.File("w"), default="-", help="Where to write. [stdout]")
def qlog(files: tuple[Path, ...], output: TextIO) -> None:
    """Put .sqlog FILES (of --qlog or $QLOGDIR) into one .qlog file that qvis loads.

    Those of a client and its server together make one sequence diagram.
    """
    traces = []
    for file in files:
        try:
            traces.append(records(file.read_bytes()))
        except ValueError as error:
            mend = "give .sqlog files, as --qlog DIR and $QLOGDIR make them"
            raise FairwayError(f"{file}: {error}", mend=mend) from error
    json.dump(for_qvis(traces), output, separators=(",", ":"))
    output.write("\n")
