"""SIGHUP: an agent that runs reads its configuration anew, and its pods notice nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import RunningAgent, running, until
from test_agent import place  # noqa: F401
from test_host import home, pings, sh  # noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces")]
POOL = '[[pool]]\nnetwork = "10.7.0.0/24"\n'
SELDOM = "[repair]\nenabled = false\nevery_s = 86400\nsettings_every_s = 86400\n"
OFTEN = "[repair]\nevery_s = 86400\nsettings_every_s = 86400\n"
LOG = '[log]\nformat = "json"\n'


@pytest.fixture
def agent(place: Path) -> Iterator[RunningAgent]:  # noqa: F811
    with running(place, SELDOM) as agent:
        yield agent


def reload(agent: RunningAgent, text: str) -> dict[str, object]:
    """Give it that configuration; what it says of it."""
    places = f'state = "{agent.state}"\nsocket = "{agent.socket}"\n'
    agent.config.write_text(places + text)
    before = len(answers(agent))
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: len(answers(agent)) > before)
    return answers(agent)[-1]


def answers(agent: RunningAgent) -> list[dict[str, object]]:
    return agent.said("reloaded") + agent.said("not reloaded")


def test_what_drifts_is_repaired_and_pools_are_there_once_the_new_configuration_says_so(agent: RunningAgent) -> None:
    agent.call("pod.add", name="demo01", addresses=["10.0.1.2"])
    sh("ip route delete 10.0.1.2")
    until(lambda: agent.said("drift"))
    said = reload(agent, OFTEN + LOG + POOL)
    assert said["event"] == "reloaded"
    assert "from_the_next_start" not in said
    until(lambda: pings("", "10.0.1.2"))
    assert [pool["network"] for pool in agent.call("pool.ls")["pools"]] == ["10.7.0.0/24"]
    assert agent.call("pod.add", name="demo02")["pod"]["addresses"] == ["10.7.0.1"]


def test_what_needs_a_start_is_named(agent: RunningAgent) -> None:
    said = reload(agent, OFTEN + LOG + '[metrics]\nlisten = "127.0.0.1:9469"\n')
    assert (said["event"], said["from_the_next_start"]) == ("reloaded", "metrics")


@pytest.mark.parametrize("wrong", ["[repair", "[repair]\nevery_s = true\n", "[nonsense]\n"])
def test_a_configuration_that_is_wrong_is_said_and_the_old_one_holds(agent: RunningAgent, wrong: str) -> None:
    assert reload(agent, wrong)["event"] == "not reloaded"
    assert agent.is_ready()
    assert not agent.call("status")["agent"]["repairs"]
