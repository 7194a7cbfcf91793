"""Alt-Svc fields (RFC 7838), and what is remembered of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.http.client.alt_svc import Alternative, AltSvcCache, Offer, parse
from fairway.http.client.limits import BROKEN_CAP_S, BROKEN_S, DEFAULT_MAX_AGE_S, MAX_AGE_CAP_S

ORIGIN = ("example.com", 443)
H3 = Alternative("example.com", 443)


@pytest.mark.parametrize(
    ("value", "offers"),
    [
        ('h3=":443"', [Offer("h3", "", 443, DEFAULT_MAX_AGE_S)]),
        ('h3=":443"; ma=60; persist=1', [Offer("h3", "", 443, 60)]),
        ('h2="alt.example:8000", h3=":50781";ma="7"', [Offer("h2", "alt.example", 8000, DEFAULT_MAX_AGE_S),
                                                        Offer("h3", "", 50781, 7)]),
        ('w%3Dx%3Ay#z=":1"', [Offer("w=x:y#z", "", 1, DEFAULT_MAX_AGE_S)]),
        ('h3="[2001:db8::1]:443"', [Offer("h3", "2001:db8::1", 443, DEFAULT_MAX_AGE_S)]),
        ('h3=":443"; ma=99999999999', [Offer("h3", "", 443, MAX_AGE_CAP_S)]),
        ('h3=":0"', []),
        ('h3=":99999"', []),
        ("h3=443", []),
        ('h3=":443"; ma=-1', []),
        ("Clear", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_field_is_read_as_its_grammar_says(value: str, offers: list[Offer]) -> None:
    assert parse(value) == offers


def test_clear_is_a_word_of_its_own() -> None:
    assert parse("clear") is None


@given(st.text(alphabet='h3=":;, ma190clear\\%[]', max_size=200))
def test_any_text_is_read_without_an_error(value: str) -> None:
    offers = parse(value)
    assert offers is None or all(0 < offer.port < 65536 for offer in offers)


def test_an_alternative_is_found_until_it_expires() -> None:
    cache = AltSvcCache()
    cache.learn(ORIGIN, 'h3=":443"; ma=60', 1000.0)
    assert cache.find(ORIGIN, 1059.0) == H3
    assert cache.find(ORIGIN, 1060.0) is None


@pytest.mark.parametrize("value", ["clear", 'h3=":443"; ma=0', 'h2=":443"'])
def test_a_new_field_replaces_what_was_known(value: str) -> None:
    cache = AltSvcCache()
    cache.learn(ORIGIN, 'h3=":443"', 0.0)
    cache.learn(ORIGIN, value, 1.0)
    assert cache.find(ORIGIN, 2.0) is None


def test_a_field_that_is_not_well_formed_changes_nothing() -> None:
    cache = AltSvcCache()
    cache.learn(ORIGIN, 'h3=":443"', 0.0)
    cache.learn(ORIGIN, "h3=", 1.0)
    assert cache.find(ORIGIN, 2.0) == H3


def test_another_host_counts_only_where_certificates_do() -> None:
    cache = AltSvcCache()
    cache.learn(ORIGIN, 'h3="elsewhere.example:443"', 0.0, other_hosts=False)
    assert cache.find(ORIGIN, 1.0) is None
    cache.learn(ORIGIN, 'h3="elsewhere.example:443"', 0.0)
    assert cache.find(ORIGIN, 1.0) == Alternative("elsewhere.example", 443)


def test_what_failed_is_left_alone_for_longer_each_time() -> None:
    cache = AltSvcCache()
    now = 0.0
    cache.learn(ORIGIN, f'h3=":443"; ma={MAX_AGE_CAP_S}', now)
    pauses = []
    for _ in range(12):
        cache.failed(ORIGIN, H3, now)
        cache.failed(ORIGIN, H3, now)  # requests that waited together count once
        begun = now
        while cache.is_broken(ORIGIN, H3, now):
            now += BROKEN_S / 2
        pauses.append(now - begun)
    assert pauses[:3] == [BROKEN_S, 2 * BROKEN_S, 4 * BROKEN_S]
    assert pauses[-1] == BROKEN_CAP_S


def test_an_answer_forgives() -> None:
    cache = AltSvcCache()
    cache.learn(ORIGIN, 'h3=":443"', 0.0)
    cache.failed(ORIGIN, H3, 0.0)
    assert cache.find(ORIGIN, 1.0) is None
    cache.worked(ORIGIN, H3)
    assert cache.find(ORIGIN, 1.0) == H3


def test_the_origin_that_was_not_used_for_longest_goes_first() -> None:
    cache = AltSvcCache(capacity=2)
    for host in ("a", "b"):
        cache.learn((host, 443), 'h3=":443"', 0.0)
    cache.find(("a", 443), 1.0)
    cache.learn(("c", 443), 'h3=":443"', 2.0)
    assert [cache.find((host, 443), 3.0) is not None for host in "abc"] == [True, False, True]
