"""The shims: both say the same to the agent, and both do without it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairway.net.cni import shim
from fairway.net.cni.pending import Pending, waiting_in
from fairway.net.cni.wire import Answer, Request, decode_request, encode_answer
from fairway.net.model.errors import UsageError

KINDS = ["python", *(["perl"] if shim.best() == "perl" else [])]
STDIN = b'{"cniVersion": "0.4.0", "name": "pods", "type": "fairway"}'


class Agent:
    """Answers one connection after the other as it is told; what it was asked is kept."""

    def __init__(self, path: Path) -> None:
        self.asked: list[Request] = []
        self.answer = encode_answer(Answer(0, b'{"an":"answer"}'))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                self.asked.append(decode_request(file.read()))
                connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Shim:
    def __init__(self, kind: str, directory: Path) -> None:
        self.pending = directory / "pending"
        self.socket = directory / "s"
        self.program = directory / "fairway"
        self.program.write_text(shim.source(kind, self.socket, self.pending))
        self.program.chmod(0o755)

    def run(self, command: str, stdin: bytes = STDIN, **more: str) -> tuple[int, dict[str, object]]:
        variables = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"} | more
        done = subprocess.run([self.program], input=stdin, env=variables, capture_output=True)
        assert done.stderr == b""
        return done.returncode, json.loads(done.stdout) if done.stdout else {}


@pytest.fixture(params=KINDS)
def fairway(request: pytest.FixtureRequest, tmp_path: Path) -> Shim:
    return Shim(request.param, tmp_path)


@pytest.fixture
def agent(fairway: Shim) -> Iterator[Agent]:
    found = Agent(fairway.socket)
    yield found
    found.close()


def test_hands_on_what_the_runtime_says_and_puts_out_the_answer(fairway: Shim, agent: Agent) -> None:
    assert fairway.run("ADD", TRACEPARENT="00-1-2-3", HOME="/root", CNI_ARGS="A=b=c;") == (0, {"an": "answer"})
    (request,) = agent.asked
    assert request.stdin == STDIN
    assert request.environment == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "A=b=c;",
        "TRACEPARENT": "00-1-2-3",
    }


def test_ends_with_the_answers_exit_code(fairway: Shim, agent: Agent) -> None:
    agent.answer = encode_answer(Answer(7, b'{"code":4}'))
    assert fairway.run("ADD") == (7, {"code": 4})


def test_hands_on_a_large_configuration(fairway: Shim, agent: Agent) -> None:
    large = b'{"cniVersion": "1.1.0", "x": "' + b"x" * 1_000_000 + b'"}'
    fairway.run("GC", stdin=large)
    assert agent.asked[0].stdin == large


def test_answers_version_by_itself_in_the_version_asked(fairway: Shim) -> None:
    code, told = fairway.run("VERSION")
    assert (code, told["cniVersion"]) == (0, "0.4.0")
    assert told["supportedVersions"] == ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert fairway.run("VERSION", stdin=b"")[1]["cniVersion"] == "1.0.0"


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)])
def test_without_an_agent_says_so_in_the_version_asked(fairway: Shim, command: str, code: int) -> None:
    exit_code, told = fairway.run(command)
    assert (exit_code, told["code"], told["cniVersion"]) == (1, code, "0.4.0")
    assert "agent" in str(told["msg"])
    assert not fairway.pending.exists()


def test_without_an_agent_accepts_a_deletion_and_notes_it_whole(fairway: Shim) -> None:
    assert fairway.run("DEL") == (0, {})
    (note,) = waiting_in(fairway.pending)
    request = decode_request(note.read_bytes())
    assert (request.environment["CNI_COMMAND"], request.environment["CNI_CONTAINERID"]) == ("DEL", "c1")
    assert request.stdin == STDIN


@pytest.mark.parametrize("cut", [b"", b"0", b"0 15\n", b'0 15\n{"an":"ans'])
def test_an_answer_that_is_cut_off_is_as_no_agent(fairway: Shim, agent: Agent, cut: bytes) -> None:
    agent.answer = cut
    assert fairway.run("ADD")[1]["code"] == 11
    assert fairway.run("DEL") == (0, {})
    assert len(waiting_in(fairway.pending)) == 1


def test_a_deletion_without_its_container_is_refused_and_not_noted(fairway: Shim) -> None:
    assert fairway.run("DEL", CNI_CONTAINERID="")[1]["code"] == 4
    assert fairway.run("DEL", CNI_IFNAME="")[1]["code"] == 4
    assert not fairway.pending.exists()


def test_a_deletion_that_cannot_be_noted_is_to_be_tried_again(fairway: Shim) -> None:
    fairway.pending.write_text("a file where the folder should be")
    code, told = fairway.run("DEL")
    assert (code, told["code"]) == (1, 11)


def test_a_path_that_would_be_more_than_a_path_is_not_written_into_a_program() -> None:
    for path in ("/run/it's.sock", "/run/$x", "/run/@x", "/run/\\x", "/run/é"):
        with pytest.raises(UsageError, match="cannot be written"):
            shim.source("python", Path(path), Path("/p"))


class TestPending:
    def note(self, directory: Path, name: str, container: str) -> Path:
        directory.mkdir(exist_ok=True)
        path = directory / name
        path.write_bytes(b"CNI_COMMAND=DEL\0CNI_CONTAINERID=%s\0\0{}" % container.encode())
        return path

    def test_what_waits_is_done_oldest_first_and_forgotten(self, tmp_path: Path) -> None:
        for name, container in (("200.1", "second"), ("100.9", "first")):
            self.note(tmp_path, name, container)
        done = []

        def do(request: Request) -> Answer:
            done.append(request.environment["CNI_CONTAINERID"])
            return Answer(0)

        assert Pending(tmp_path).drain(do) == 2
        assert done == ["first", "second"]
        assert waiting_in(tmp_path) == []

    def test_what_fails_waits_on_and_holds_up_nothing(self, tmp_path: Path) -> None:
        failing, _ = self.note(tmp_path, "1.1", "bad"), self.note(tmp_path, "2.1", "good")
        answers = {"bad": Answer(1, b'{"code": 11}'), "good": Answer(0)}
        assert Pending(tmp_path).drain(lambda request: answers[request.environment["CNI_CONTAINERID"]]) == 1
        assert waiting_in(tmp_path) == [failing]

    def test_what_cannot_be_read_is_kept_aside(self, tmp_path: Path) -> None:
        self.note(tmp_path, "1.1", "c1").write_bytes(b"torn")
        assert Pending(tmp_path).drain(lambda _: Answer(0)) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["1.1.bad"]

    def test_what_a_killed_shim_left_half_written_is_none(self, tmp_path: Path) -> None:
        self.note(tmp_path, "1.1.new", "c1")
        assert Pending(tmp_path).drain(lambda _: Answer(0)) == 0
        assert os.listdir(tmp_path) == ["1.1.new"]
