"""The media type of a file by its name, and whether a coding makes it smaller."""

from __future__ import annotations

import mimetypes

# Python's table alone, and not the machine's /etc/mime.types, so that every host answers the same.
_TABLE = mimetypes.MimeTypes(filenames=())
for _extension, _type in {
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".jsonld": "application/ld+json",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".rst": "text/x-rst",
    ".toml": "application/toml",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "text/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}.items():
    _TABLE.add_type(_type, _extension)

_ENCODED = {
    "gzip": "application/gzip",
    "br": "application/x-brotli",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}
_COMPRESSIBLE = {
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/javascript",
    "application/toml",
    "application/wasm",
    "application/xml",
    "application/xhtml+xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
    "image/vnd.microsoft.icon",
}


def media_type(name: str) -> str:
    """The value of Content-Type for a file of this name; text is said to be UTF-8."""
    # guess_type takes URLs: without the "./" a name such as `data:,x` would be one
    guessed, encoding = _TABLE.guess_type("./" + name)
    if encoding is not None:
        return _ENCODED.get(encoding, "application/octet-stream")
    if guessed is None:
        return "application/octet-stream"
    return guessed + "; charset=utf-8" if guessed.startswith("text/") else guessed


def compressible(value: str) -> bool:
    """Whether content of this type is worth compressing: images, sound, video and archives are compressed already."""
    bare = value.partition(";")[0]
    return bare.startswith("text/") or bare in _COMPRESSIBLE
