"""Tables, figures and progress."""

from __future__ import annotations

import io
import sys

import pytest

from fairway.cli import output
from fairway.cli.output import Progress, milliseconds, plural, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In place of stderr; called by the test itself, as pytest puts its own there after the fixtures."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(output, "_QUIET_S", 0.0)
    monkeypatch.setattr(output, "_BETWEEN_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    return shown


def test_columns_are_as_wide_as_what_is_in_them_and_lines_end_with_it():
    assert table(("name", "mtu"), [("a-long-name", "1500"), ("b", "")]) == "NAME         MTU\na-long-name  1500\nb"


@pytest.mark.parametrize(("value", "text"), [(0.0123, "0.01"), (1.234, "1.23"), (20.44, "20.4"), (312.4, "312")])
def test_milliseconds_have_three_figures(value: float, text: str):
    assert milliseconds(value) == text


def test_one_is_singular():
    assert [plural(1, "pod"), plural(2, "pod"), plural(0, "echo", "echoes")] == ["1 pod", "2 pods", "0 echoes"]


def test_progress_is_shown_on_a_terminal_and_wiped(monkeypatch: pytest.MonkeyPatch):
    terminal = a_terminal(monkeypatch)
    with Progress("ping") as progress:
        progress.show(1, 4)
    assert "ping [######" in terminal.getvalue()
    assert "1/4" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_progress_is_silent_elsewhere(capsys: pytest.CaptureFixture[str]):
    with Progress("ping") as progress:
        progress.show(1, 4)
    assert capsys.readouterr() == ("", "")


def test_progress_of_what_is_soon_done_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(output, "_QUIET_S", 3600.0)
    with Progress("ping") as progress:
        progress.show(1, 4)
    assert terminal.getvalue() == ""
