"""The agent's configuration: what it may be, and what is said of what it may not."""

from __future__ import annotations

import tomllib
from ipaddress import ip_network

import pytest

from fairway.net.agent.config import EXAMPLE, Config, load, parse
from fairway.net.model.errors import UsageError
from fairway.net.model.pool import Pool


def test_the_example_says_what_holds_without_it():
    assert parse(tomllib.loads(EXAMPLE), "example") == Config()


def test_the_pools_of_the_example_can_be_switched_on():
    head, pools = EXAMPLE.split("# [[pool]]")
    switched = "[[pool]]" + "\n".join(line.removeprefix("# ") for line in pools.splitlines())
    (pool,) = parse(tomllib.loads(head + switched), "example").pools
    assert pool == Pool(
        ip_network("10.0.3.0/24"), "main", ip_network("10.0.0.0/16"), frozenset({"shop"}), frozenset({"podnet"}), 60
    )


WRONG = {
    'state = "relative"': ("state is 'relative'", "absolute path"),
    "socket = 3": ("socket is 3", "text"),
    'leave_foreign_chains = "yes"': ("leave_foreign_chains is 'yes'", "true or false"),
    "repair = 5": ("repair is 5", "a table"),
    "[repair]\nevery_s = 0": ("repair.every_s is 0", "0.1 to 86400"),
    "[repair]\nevery_s = true": ("repair.every_s is True", "0.1 to 86400"),
    "[repair]\nevery = 3": ("repair.every is not a key", "enabled, every_s, settings_every_s"),
    '[metrics]\nlisten = "localhost:99"': ("metrics.listen is 'localhost:99'", "127.0.0.1:9469"),
    '[metrics]\nlisten = "127.0.0.1:0"': ("metrics.listen is '127.0.0.1:0'", "127.0.0.1:9469"),
    '[log]\nlevel = "loud"': ("log.level is 'loud'", "info, debug, warning, error"),
    "[[pool]]\n": ("pool 1.network is None", "text"),
    '[[pool]]\nnetwork = "10.0.0.1/24"': ("pool 1.network is '10.0.0.1/24'", "host bits set"),
    '[[pool]]\nnetwork = "10.0.0.0/24"\nof = "10.1.0.0/16"': ("pool 1: pool 10.0.0.0/24 is not a part", "block"),
    '[[pool]]\nnetwork = "10.0.0.0/24"\nnamespaces = "shop"': ("pool 1.namespaces is 'shop'", "a list of texts"),
    '[[pool]]\nnetwork = "10.0.0.0/24"\nnam = "x"': ("pool 1.nam is not a key", "cooldown_s, name"),
    "pool = 3": ("pool is 3", "[[pool]]"),
    "colour = 3": ("colour is not a key", "leave_foreign_chains"),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named_with_its_file_its_key_and_what_is_expected(text):
    with pytest.raises(UsageError) as caught:
        parse(tomllib.loads(text), "agent.toml")
    message, mend = WRONG[text]
    assert caught.value.message.startswith("agent.toml: ")
    assert message in caught.value.message
    assert mend in caught.value.mend


def test_two_pools_that_overlap_are_refused():
    text = '[[pool]]\nnetwork = "10.0.0.0/16"\n[[pool]]\nnetwork = "10.0.1.0/24"'
    with pytest.raises(UsageError, match=r"pool 2: pool .* overlaps"):
        parse(tomllib.loads(text), "agent.toml")


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        load(tmp_path / "nowhere")
    for content in (b"state = ", b"\xff"):
        (tmp_path / "agent.toml").write_bytes(content)
        with pytest.raises(UsageError, match=r"agent\.toml"):
            load(tmp_path / "agent.toml")
