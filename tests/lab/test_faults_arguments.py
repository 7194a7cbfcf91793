import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.lab.faults.arguments import MODULE, Arguments, from_command_line, parse, words
from fairway.lab.model import Faults

faults = st.builds(
    Faults,
    delay_ms=st.floats(0, 1e6),
    jitter_ms=st.floats(0, 1e6),
    loss=st.floats(0, 1),
    rate_bps=st.integers(0, 10**12),
)
names = st.text("abc-09.", min_size=1, max_size=15)


@given(st.builds(Arguments, names, st.lists(names, min_size=1).map(tuple), faults, st.text(max_size=20)))
def test_what_a_relay_is_told_can_be_read_back_from_its_command_line(arguments):
    assert parse(words(arguments)) == arguments
    assert from_command_line(["/usr/bin/python3", "-S", "-m", MODULE, *words(arguments)]) == arguments


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["vi", "relay.py"],
        [MODULE],
        ["grep", MODULE, "--namespace", "a", "--port", "b"],
        ["python", "-m", MODULE, "--namespace", "a"],
        ["python", "-m", MODULE, "--namespace", "a", "--port"],
        ["python", "-m", MODULE, "--namespace", "a", "--port", "b", "--loss", "much"],
        ["python", "-m", MODULE, "--namespace", "a", "--port", "b", "--colour", "red"],
    ],
)
def test_another_processes_command_line_is_no_relays(command):
    assert from_command_line(command) is None
