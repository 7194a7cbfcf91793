"""The files of a directory as an ASGI 3 application: `Files`. Knows HTTP's semantics (RFC 9110), not its versions."""

from fairway.http.server.files.application import Files
from fairway.http.server.files.open_file import FileShrank

__all__ = ["FileShrank", "Files"]
