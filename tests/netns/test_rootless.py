"""Labs of a user without any privileges: a real one, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _cffi_backend
import click
import cryptography
import pyroute2
import pytest

import fairway

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")]

USER = 61234  # nobody's
EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = "from fairway.cli import main; main(prog_name='fairway')"
RECORD = "fairway/holder.json"


@dataclass(frozen=True)
class User:
    """A user, a directory that only that user can read, and a copy of Fairway that anybody can."""

    python: str
    library: Path
    runtime: Path

    def start(self, *command: str, **settings: Any) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.library),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_RUNTIME_DIR": str(self.runtime),
        }
        return subprocess.Popen(
            command,
            user=USER,
            group=USER,
            extra_groups=[],
            env=environment,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **settings,
        )

    def fairway(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What the command prints, and what it says on stderr."""
        with self.start(self.python, "-c", PROGRAM, *arguments) as process:
            output, errors = process.communicate(timeout=60)
        assert process.returncode == code, (output, errors)
        assert "Traceback" not in errors
        return output, errors

    def document(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.fairway(*arguments, "--json", code=code)[0])

    def holder(self) -> int:
        return int(json.loads((self.runtime / RECORD).read_text())["pid"])


def runs(pid: int) -> bool:
    """Whether the process runs: one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def has_ended(pid: int) -> bool:
    for _ in range(200):
        if not runs(pid):
            return True
        time.sleep(0.01)
    return False


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    """Copies that anybody can read, as a checkout need not be."""
    directory = Path(tempfile.mkdtemp(prefix="fwt-rootless-"))
    directory.chmod(0o755)
    for package in (fairway, click, pyroute2):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, directory / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(EXAMPLES, directory / "examples")
    shutil.copytree(Path(cryptography.__file__).parent, directory / "with-agents/cryptography")
    shutil.copy(str(_cffi_backend.__file__), directory / "with-agents")
    subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that anybody may run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/{version}", "/usr/bin/python3"):
        program = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            if not subprocess.run([path, "-c", program], user=USER, group=USER, extra_groups=[]).returncode:
                return path
        except OSError:
            continue
    pytest.skip("no Python 3.11 that another user may run")


@pytest.fixture
def user(python: str, library: Path) -> Iterator[User]:
    runtime = Path(tempfile.mkdtemp(prefix="fwt-rootless-"))
    os.chown(runtime, USER, USER)
    somebody = User(python, library, runtime)
    try:
        with somebody.start("unshare", "--user", "--map-root-user", "--net", "--mount", "true") as trial:
            if trial.wait(20):
                pytest.skip("this kernel gives users without root no namespaces")
        yield somebody
        if (runtime / RECORD).exists():
            somebody.fairway("down", "--all")
    finally:
        shutil.rmtree(runtime)


def example(user: User, name: str, *, agents: bool = False) -> str:
    """The file of the example; without agents, whose cryptography another Python than ours may not have."""
    file = user.library / "examples" / f"{name}.toml"
    if not agents:
        file.write_text(file.read_text().replace("agents = true", "agents = false"))
    return str(file)


def test_a_lab_comes_up_is_found_again_and_goes(user: User):
    assert user.document("up", example(user, "two-hosts"))["pods"] == 4
    assert [lab["name"] for lab in user.document("ls")["labs"]] == ["two-hosts"]
    summary = user.document("ping")["summary"]
    assert summary["pods"] == {"reached": 12, "pairs": 12}
    assert summary["nodes-pods"] == {"reached": 16, "pairs": 16}
    assert "10.0.1.2/32" in user.fairway("exec", "demo01", "--", "ip", "address")[0]
    user.fairway("exec", "node03", "--", "sh", "-c", "exit 7", code=7)
    assert user.document("up", example(user, "two-hosts"))["operations"] == 0
    assert user.document("down")["ended"][0]["namespaces"] == 6
    assert user.document("ls") == {"labs": []}


def test_agents_run_in_it_and_find_each_other(user: User):
    theirs = subprocess.run([user.python, "--version"], capture_output=True, text=True).stdout.split()[1]
    if theirs.split(".")[:2] != list(map(str, sys.version_info[:2])):
        pytest.skip("the Python that another user may run cannot load what ours can")
    for part in (user.library / "with-agents").iterdir():
        if not (user.library / part.name).exists():
            part.rename(user.library / part.name)
    shutil.copy(EXAMPLES / "two-hosts.toml", user.library / "examples")
    assert user.document("up", example(user, "two-hosts", agents=True))["agents"] == 2
    assert user.document("ping")["summary"]["pods"] == {"reached": 12, "pairs": 12}
    assert user.document("pod", "move", "demo01", "--to", "node02")["addresses"] == ["10.0.1.2"]
    assert user.document("ping")["summary"]["pods"] == {"reached": 12, "pairs": 12}
    assert user.document("down")["ended"][0]["processes"] == []


def test_the_machine_sees_none_of_it(user: User):
    names = set(os.listdir("/run/netns")) if Path("/run/netns").exists() else set()
    user.fairway("up", example(user, "two-hosts"))
    assert names == (set(os.listdir("/run/netns")) if Path("/run/netns").exists() else set())


def test_a_lab_with_a_bad_line_works_too(user: User):
    user.fairway("up", example(user, "lossy"))
    assert user.document("ping")["summary"]["pods"] == {"reached": 2, "pairs": 2}


def test_the_holder_is_known_by_its_name_and_holds_nothing_else(user: User):
    user.fairway("up", example(user, "two-hosts"))
    process = Path(f"/proc/{user.holder()}")
    assert b"fairway-holder" in (process / "cmdline").read_bytes()
    assert (process / "comm").read_text() == "fairway-holder\n"
    assert {str(link.readlink()) for link in (process / "fd").iterdir()} == {"/dev/null"}
    assert os.getsid(user.holder()) != os.getsid(0)


def test_the_last_lab_down_ends_the_holder(user: User):
    user.fairway("up", example(user, "two-hosts"))
    user.fairway("up", example(user, "ipv6"))
    holder = user.holder()
    user.fairway("down", "two-hosts")
    assert user.holder() == holder
    assert runs(holder)
    user.fairway("down", "ipv6")
    assert has_ended(holder)
    assert not (user.runtime / RECORD).exists()


def test_labs_brought_up_at_once_share_a_holder(user: User):
    names = ["two-hosts", "ipv6", "dual-stack"]
    started = [user.start(user.python, "-c", PROGRAM, "up", example(user, name)) for name in names]
    assert [process.communicate(timeout=60)[1] for process in started] == [""] * 3
    assert sorted(lab["name"] for lab in user.document("ls")["labs"]) == sorted(names)


def test_a_file_that_is_wrong_leaves_no_holder(user: User):
    wrong = user.runtime / "wrong.toml"
    wrong.write_text("[nodes.node01]\npolls = []\n")
    assert "polls" in user.fairway("up", str(wrong), code=2)[1]
    assert not (user.runtime / RECORD).exists()


def test_a_holder_that_was_killed_is_not_missed(user: User):
    user.fairway("up", example(user, "two-hosts"))
    former = user.holder()
    os.kill(former, signal.SIGKILL)
    assert has_ended(former)
    assert user.document("ls") == {"labs": []}
    user.fairway("up", example(user, "two-hosts"))
    assert user.holder() != former
    assert user.document("ping")["summary"]["pods"] == {"reached": 12, "pairs": 12}


def test_a_process_that_got_the_holders_number_is_left_alone(user: User):
    with user.start("sleep", "60") as other:
        (user.runtime / "fairway").mkdir(mode=0o700)
        os.chown(user.runtime / "fairway", USER, USER)
        (user.runtime / RECORD).write_text(json.dumps({"pid": other.pid, "start_time": 1}))
        assert user.document("ls") == {"labs": []}
        user.fairway("up", example(user, "two-hosts"))
        user.fairway("down")
        assert runs(other.pid)
        other.kill()


def test_a_directory_that_others_can_write_is_refused(user: User):
    (user.runtime / "fairway").mkdir()
    os.chown(user.runtime / "fairway", USER, USER)
    (user.runtime / "fairway").chmod(0o777)
    message = json.loads(user.fairway("up", example(user, "two-hosts"), "--json", code=1)[1])["error"]
    assert "only you can use" in message["message"]
    assert "chmod 700" in message["mend"]


@pytest.mark.parametrize(
    "arguments",
    [["pod", "add", "demo01"], ["pod", "ls"], ["pool", "ls"], ["route", "ls"], ["check"], ["pod", "rm", "demo01"]],
)
def test_a_hosts_own_commands_need_root(user: User, arguments: list[str]):
    _, errors = user.fairway(*arguments, code=1)
    assert errors.startswith("error: needs root\n  mend: run it as root")


def test_a_kernel_that_forbids_it_is_told_with_the_setting(user: User):
    """In a namespace that may have none below it, as root without any capability."""
    script = (
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "
        f'{user.python} -c "$0" up {example(user, "two-hosts")}'
    )
    with user.start("unshare", "--user", "--map-root-user", "sh", "-c", script, PROGRAM) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: without root a lab needs a user namespace, and this kernel gives none (unshare: ")
    assert "sysctl -w user.max_user_namespaces=10000" in errors
