"""https URLs as people type them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

_KEPT = "/%:=&?~+!$,;'@()*[]|"
"""What is left as it is in path and query, besides letters and digits; `%` since it may be encoded already."""


class UrlError(ValueError):
    """A URL that HTTP/3 cannot fetch; says why."""


@dataclass(frozen=True, slots=True)
class Url:
    """Host (without brackets, ASCII), port, path with query."""

    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port; the port only if it is not 443."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"https://{self.authority}{self.path}"

    @property
    def file_name(self) -> str:
        """A name for what the URL leads to, which cannot lead out of a directory: `index.html` if the path has none."""
        last = unquote(self.path.partition("?")[0].rpartition("/")[2])
        name = re.sub(r"[\x00-\x1f\x7f-\x9f/\\]", "_", last)[:200]
        return "index.html" if name.strip(". ") == "" else name

    def join(self, location: str) -> Url:
        """Where a redirect from here leads. `UrlError` if that is nowhere for HTTP/3."""
        target = urljoin(str(self), location)
        if not target.lower().startswith("https://"):  # `parse` would take `name:1` for a host and its port
            raise UrlError(f"{target!r}: HTTP/3 is only for https://")
        return parse(target)


def parse(text: str) -> Url:
    """A URL; `https://` may be left out. `UrlError` says what is wrong with it."""
    text = text.strip()
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        port = 443 if parts.port is None else parts.port
    except ValueError as error:
        raise UrlError(f"{text!r} is no URL: {error}") from None
    if parts.scheme.lower() != "https":
        raise UrlError(f"{text}: HTTP/3 is only for https://, not {parts.scheme}://")
    if parts.username is not None:
        raise UrlError(f"{parts.hostname}: a URL with a name or password ends up in logs: send it as a field instead")
    if not parts.hostname or not port:
        raise UrlError(f"{text!r} is no URL: it names no host, or port 0")
    path = quote(parts.path or "/", safe=_KEPT)
    if parts.query:
        path += "?" + quote(parts.query, safe=_KEPT)
    return Url(_ascii(parts.hostname), port, path)


def _ascii(host: str) -> str:
    if ":" in host:
        return host
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise UrlError(f"{host!r} is no host name") from None
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UrlError(f"{host!r} is no host name")
    return name.lower()
