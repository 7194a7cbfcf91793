"""The process of a node's agent: `python -P -m fairway.lab.agents.main LAB NODE`, by which it is recognised.

It enters the node's namespace and becomes a daemon before it loads what an agent needs. Its first process prints the
daemon's number and ends; what the agent says goes to its log.
"""

from __future__ import annotations

import os
import sys

MODULE = "fairway.lab.agents.main"


def main(lab: str, node: str) -> None:
    """Be the agent of that node until SIGTERM."""
    from fairway.lab import directory
    from fairway.net.kernel import namespaces

    config = directory.agent_config(lab, node)
    namespaces.enter(f"{lab}.{node}")
    log = os.open(directory.agent_log(lab, node), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    child = os.fork()
    if child:
        print(child, flush=True)
        os._exit(0)
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)

    import asyncio

    from fairway.lab.nodes import node_identity
    from fairway.net.agent.agent import Agent
    from fairway.net.agent.config import load
    from fairway.net.agent.log import set_up
    from fairway.net.model.errors import FairwayError

    told = load(config)
    set_up(told.log_format, told.log_level)

    async def run() -> None:
        await Agent(told, node_identity(lab, node)).run()

    try:
        asyncio.run(run())
    except FairwayError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main(*sys.argv[1:])
