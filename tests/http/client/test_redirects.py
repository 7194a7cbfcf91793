"""The request that a redirect asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fairway.http.client.download import Ask, RedirectError, redirected
from fairway.http.client.url import parse

SECRETS = [(b"authorization", b"Bearer x"), (b"cookie", b"a=b")]
FIELDS = [(b"accept", b"*/*"), (b"content-type", b"text/plain"), (b"content-length", b"4"), *SECRETS]
HERE = Ask(parse("https://example.com/here"), "POST", FIELDS, b"body")


@pytest.mark.parametrize("location", [b"https://other.example/", b"https://example.com:8443/", b"//other.example/"])
def test_what_is_secret_is_not_told_to_another_origin(location: bytes) -> None:
    assert not set(SECRETS) & set(redirected(HERE, 307, location).fields)


def test_the_same_origin_is_told_everything_again() -> None:
    there = redirected(HERE, 308, b"/there")
    assert (there.method, there.body, there.fields) == ("POST", b"body", FIELDS)
    assert str(there.url) == "https://example.com/there"


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_becomes_a_get_without_a_body(status: int) -> None:
    there = redirected(HERE, status, b"/there")
    assert (there.method, there.body) == ("GET", b"")
    assert there.fields == [(b"accept", b"*/*"), *SECRETS]


@pytest.mark.parametrize(("status", "method", "next_method"), [(303, "HEAD", "HEAD"), (303, "PUT", "GET"),
                                                              (302, "PUT", "PUT")])  # fmt: skip
def test_other_methods_stay_unless_the_answer_is_elsewhere(status: int, method: str, next_method: str) -> None:
    assert redirected(Ask(HERE.url, method), status, b"/there").method == next_method


def test_a_body_that_can_be_had_only_once_is_not_sent_again() -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"body"

    ask = Ask(HERE.url, "POST", [], once(), replayable=False)
    with pytest.raises(RedirectError, match="only once"):
        redirected(ask, 307, b"/there")
    assert redirected(ask, 303, b"/there").replayable


@pytest.mark.parametrize("location", [b"http://example.com/", b"\xff", b"ftp://example.com/"])
def test_where_http_3_cannot_go_is_refused(location: bytes) -> None:
    with pytest.raises(RedirectError):
        redirected(HERE, 302, location)
