import subprocess
import sys

from fairway.lab.faults import engine, relay


def test_a_relay_waits_for_no_large_import():
    program = "import sys, fairway.lab.faults.relay; print(*{'pyroute2', 'click', 'asyncio'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_a_relay_that_is_told_nonsense_says_so(capsys):
    assert relay.main(["--namespace", "x", "--port"]) == 1
    assert "has no value" in capsys.readouterr().out


def test_the_engine_is_one_of_two_and_stays_the_same():
    assert engine() in ("netem", "relay")
    assert engine() == engine()
