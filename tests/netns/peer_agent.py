"""An agent whose host shares /run/netns with other hosts: peer_agent.py CONFIG NAME.

Its pods' namespaces are called NAME-POD, where a real host's are called as the pods.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fairway.net.agent.agent import Agent
from fairway.net.agent.config import load
from fairway.net.agent.log import set_up
from fairway.net.host import Identity


async def main(path: str, name: str) -> None:
    config = load(Path(path))
    set_up(config.log_format, config.log_level)
    await Agent(config, Identity("", f"{name}-", f"fairway {name}")).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
