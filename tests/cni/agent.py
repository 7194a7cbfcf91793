"""An agent that serves CNI and nothing else, for tests and the kit: `agent.py SOCKET STATE [POOL ...]`."""

from __future__ import annotations

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path

from fairway.net.cni import Service
from fairway.net.host import Host


async def serve(socket: Path, state: Path, pools: list[str]) -> None:
    with Host(state) as host:
        for pool in map(ip_network, pools):
            host.pools.add(pool)
        host.repair()
        loop = asyncio.get_running_loop()
        worker, waiters = ThreadPoolExecutor(1), ThreadPoolExecutor(64)
        service = Service(
            host,
            lambda work: loop.run_in_executor(worker, work),
            lambda name: loop.run_in_executor(waiters, host.wait_removed, name),
            socket=socket,
            pending=socket.with_name("cni-pending"),
        )
        await service.start()
        ended = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()
        await service.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
