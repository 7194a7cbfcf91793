"""What the agent says, for people and for programs; what systemd is told."""

from __future__ import annotations

import json
import socket

import pytest

from fairway.net.agent import log, systemd


@pytest.fixture(autouse=True)
def quiet_again():
    yield
    log.LOGGER.handlers.clear()


def test_a_program_reads_an_object_a_line(capsys):
    log.set_up("json", "info")
    log.say("repaired", what='a "route"\nin two lines', who="", count=3)
    line = capsys.readouterr().err
    document = json.loads(line)
    assert line.count("\n") == 1
    assert (document["event"], document["what"], document["count"]) == ("repaired", 'a "route"\nin two lines', 3)
    assert "who" not in document


def test_a_person_reads_words_and_what_has_blanks_is_quoted(capsys):
    log.set_up("text", "info")
    log.say("repaired", level="warning", what="the route", who="nft")
    line = capsys.readouterr().err
    assert line.endswith('Z warning repaired what="the route" who=nft\n')
    log.say("x", text="a\nb")
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_less_than_the_level_is_not_said(capsys):
    log.set_up("text", "warning")
    log.say("ready")
    assert capsys.readouterr().err == ""


def test_systemd_is_told_by_its_socket(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.Notifier().say("READY=1")
        assert listening.recv(100) == b"READY=1"


def test_nobody_is_told_where_nobody_listens(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    systemd.Notifier().say("READY=1")


def test_the_unit_is_written_once(tmp_path):
    text = systemd.unit("/usr/bin/fairway", None)
    assert "ExecStart=/usr/bin/fairway agent\n" in text
    assert systemd.install(text, tmp_path / "systemd" / "fairway.service")
    assert not systemd.install(text, tmp_path / "systemd" / "fairway.service")
    assert "agent --config /etc/x.toml\n" in systemd.unit("fairway", "/etc/x.toml")
