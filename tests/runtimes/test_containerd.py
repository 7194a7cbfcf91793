"""containerd on Fairway's network: pods started, connected, restarted around, removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairway.net.cni.install import PARTNERS
from netns.agents import RunningAgent
from runtimes.containerd import IMAGE, Containerd
from runtimes.host import ADDRESS, answers, fetched, host, install, served, sh

PROGRAMS = ("containerd", "ctr", "runc", "busybox")
POOL = "10.90.0.0/16"
MANY = 100

pytestmark = [
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason=f"needs {', '.join(PROGRAMS)}"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def on_host() -> Iterator[tuple[Path, RunningAgent]]:
    with host(POOL) as found:
        yield found


@pytest.fixture(scope="module")
def agent(on_host: tuple[Path, RunningAgent]) -> RunningAgent:
    return on_host[1]


@pytest.fixture(scope="module")
def containerd(on_host: tuple[Path, RunningAgent]) -> Iterator[Containerd]:
    directory, agent = on_host
    place = install(directory, agent, "loopback", *PARTNERS)
    found = Containerd(directory / "containerd", place.bin_directory, place.conf_directory)
    found.start()
    found.import_image()
    yield found
    found.end()


@pytest.fixture(autouse=True)
def no_pods(containerd: Containerd) -> Iterator[None]:
    """Whatever a test left is removed, and nothing of it is on the host then."""
    yield
    for sandbox in containerd.runtime.sandboxes():
        containerd.runtime.remove_sandbox(sandbox)
    assert "fwy-" not in sh("ip link")
    assert "10.90." not in sh("ip route show type unicast")


def test_a_pod_has_an_address_of_the_pool_and_answers(containerd: Containerd) -> None:
    pod = containerd.runtime.run_sandbox("one")
    assert pod.addresses[0].startswith("10.90.")
    assert answers(pod.addresses[0])


def test_pods_ping_each_other_and_the_host(containerd: Containerd) -> None:
    one, two = (containerd.runtime.run_sandbox(name) for name in ("one", "two"))
    shell = containerd.runtime.start_container(one, IMAGE, ["/bin/sleep", "1000"])
    for target in (two.addresses[0], ADDRESS):
        code, printed = containerd.runtime.execute(shell, "/bin/ping", "-c", "1", "-W", "2", target)
        assert code == 0, printed


def test_a_pod_serves_http_to_another_that_sees_the_page(containerd: Containerd) -> None:
    one, two = (containerd.runtime.run_sandbox(name) for name in ("server", "client"))
    containerd.runtime.start_container(one, IMAGE, ["/bin/httpd", "-f", "-p", "80", "-h", "/www"])
    shell = containerd.runtime.start_container(two, IMAGE, ["/bin/sleep", "1000"])
    url = f"http://{one.addresses[0]}/index.html"
    assert served(lambda: containerd.runtime.execute(shell, "/bin/wget", "-q", "-O", "-", url)[1])


def test_a_host_port_leads_to_the_pod_by_the_plugin_that_follows(containerd: Containerd) -> None:
    pod = containerd.runtime.run_sandbox("server", ports={8080: 80})
    containerd.runtime.start_container(pod, IMAGE, ["/bin/httpd", "-f", "-p", "80", "-h", "/www"])
    assert served(lambda: fetched(f"http://{ADDRESS}:8080/index.html"))


def test_a_removed_pods_address_answers_no_more(containerd: Containerd) -> None:
    pod = containerd.runtime.run_sandbox("one")
    containerd.runtime.remove_sandbox(pod.id)
    assert not answers(pod.addresses[0])


def test_a_hundred_pods_started_at_once_have_a_hundred_addresses(containerd: Containerd) -> None:
    with ThreadPoolExecutor(10) as pool:
        pods = list(pool.map(containerd.runtime.run_sandbox, [f"pod{number}" for number in range(MANY)]))
    assert len({pod.addresses[0] for pod in pods}) == MANY
    assert all(answers(pod.addresses[0]) for pod in pods)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(containerd.runtime.remove_sandbox, [pod.id for pod in pods]))


def test_pods_live_through_the_end_of_containerd_and_of_the_agent(containerd: Containerd, agent: RunningAgent) -> None:
    one, two = (containerd.runtime.run_sandbox(name) for name in ("one", "two"))
    shell = containerd.runtime.start_container(one, IMAGE, ["/bin/sleep", "1000"])
    containerd.kill()
    agent.kill()
    assert answers(one.addresses[0])
    containerd.start()
    agent.again()
    assert containerd.runtime.addresses(one) == one.addresses
    code, printed = containerd.runtime.execute(shell, "/bin/ping", "-c", "1", "-W", "2", two.addresses[0])
    assert code == 0, printed
    three = containerd.runtime.run_sandbox("three")
    assert three.addresses[0] not in one.addresses + two.addresses
    assert answers(three.addresses[0])


def test_pods_are_removed_while_the_agent_is_down(containerd: Containerd, agent: RunningAgent) -> None:
    pods = [containerd.runtime.run_sandbox(f"pod{number}") for number in range(5)]
    agent.kill()
    for pod in pods:
        containerd.runtime.remove_sandbox(pod.id)
    agent.again()
    assert "fwy-" not in sh("ip link")


def test_a_pod_is_refused_while_the_agent_is_down_and_works_once_it_is_back(
    containerd: Containerd, agent: RunningAgent
) -> None:
    agent.kill()
    with pytest.raises(Exception, match="agent does not answer"):
        containerd.runtime.run_sandbox("one")
    agent.again()
    assert answers(containerd.runtime.run_sandbox("one").addresses[0])
