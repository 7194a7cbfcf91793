"""Why a request gets no file: an exception with the status that says so."""

from __future__ import annotations

import errno


class Refused(Exception):  # noqa: N818 - an outcome, not always an error
    """The answer is an error: `status` (RFC 9110 section 15) and its fields."""

    def __init__(self, status: int, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers


_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV, errno.ENXIO, errno.EINVAL}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_LATER = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}


def refusal_of(error: OSError) -> Refused | None:
    """The answer that an error of the file system means; None for one that its owner must hear of, as of a disk."""
    if error.errno in _NOT_THERE:
        return Refused(404)
    if error.errno in _FORBIDDEN:
        return Refused(403)
    if error.errno in _LATER:
        return Refused(503, ((b"retry-after", b"1"),))
    return None
