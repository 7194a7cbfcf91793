"""A host's part in the exchange, as a program, in the network namespace in which it is started.

peer_agent.py STATE ADDRESS [NAME=SECONDS ...]     commands come by its standard input, answers are lines of JSON:
pods: the pods have changed; peers, routes: what `fairway peers` and `fairway routes` show; quit, leave: end
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fairway.net.agent.peers import Peering, PeerOptions, peering_of
from fairway.net.host import Host


async def answer(peering: Peering, command: str) -> Any:
    if command == "pods":
        peering.pods_changed()
        return {}
    if command == "peers":
        return await peering.peers()
    if command == "routes":
        return await peering.routes()
    if command == "conflicts":
        return peering.conflicts()
    raise ValueError(command)


async def main(state: str, address: str, options: dict[str, float]) -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    with Host(Path(state)) as host:
        wanted: dict[str, Any] = dict(options)
        peering = peering_of(host, PeerOptions((ip_address(address),), 7946, **wanted))
        assert peering is not None
        await peering.start()
        print(json.dumps("ready"), flush=True)
        command = ""
        while command not in ("quit", "leave"):
            command = (await commands.readline()).decode().strip() or "quit"
            if command not in ("quit", "leave"):
                print(json.dumps(await answer(peering, command)), flush=True)
        await peering.stop(leaving=command == "leave")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    gc.freeze()
    given = dict(each.split("=") for each in sys.argv[3:])
    asyncio.run(main(sys.argv[1], sys.argv[2], {name: float(value) for name, value in given.items()}))
