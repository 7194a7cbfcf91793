"""https URLs as people type them, and the names that files get from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.http.client.url import Url, UrlError, parse


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("example.com", "https://example.com/"),
        ("https://EXAMPLE.com:443/a?b=c#part", "https://example.com/a?b=c"),
        ("https://example.com:8443", "https://example.com:8443/"),
        ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
        ("https://bücher.example/ä b", "https://xn--bcher-kva.example/%C3%A4%20b"),
        ("https://example.com/a%20b", "https://example.com/a%20b"),
    ],
)
def test_what_is_typed_becomes_what_is_sent(text: str, url: str) -> None:
    assert str(parse(text)) == url


@pytest.mark.parametrize("text", ["", "https://", "https://a:99999/", "https://a b/", "ftp://a/", "https://[::1/"])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(UrlError):
        parse(text)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.iso?x=1/2", "b.iso"),
        ("/", "index.html"),
        ("/a/..", "index.html"),
        ("/%2e%2e", "index.html"),
        ("/..%2Fetc%2Fpasswd", ".._etc_passwd"),
        ("/a%00%1b[31m", "a__[31m"),
    ],
)
def test_a_file_is_named_after_the_end_of_the_path(path: str, name: str) -> None:
    assert Url("example.com", 443, path).file_name == name


@given(st.text(max_size=300))
def test_no_name_leads_out_of_its_directory(path: str) -> None:
    name = Url("example.com", 443, "/" + path).file_name
    assert name not in ("", ".", "..")
    assert not {"/", "\0"} & set(name)


def test_a_redirect_leads_from_where_it_was_found() -> None:
    here = parse("https://example.com/a/b")
    assert str(here.join("c?d")) == "https://example.com/a/c?d"
    assert str(here.join("//other.example/x")) == "https://other.example/x"
    with pytest.raises(UrlError):
        here.join("http://example.com/")
