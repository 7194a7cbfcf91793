"""What goes wrong, for the person who reads it: what happened, where, and what mends it."""

from __future__ import annotations


class FairwayError(Exception):
    """Something could not be done; nothing is half-made. `mend` says what the reader can do about it."""

    exit_code = 1

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message}\n  mend: {self.mend}" if self.mend else self.message


class UsageError(FairwayError):
    """The caller asked for what cannot be: a bad name, an address outside every pool, an unknown key."""

    exit_code = 2


class NamespaceError(UsageError):
    """What was given as a pod's network namespace is none, or cannot be a pod's."""


class AttachedError(UsageError):
    """That interface of that container is attached already."""


class ExhaustedError(FairwayError):
    """Every address of the pools that a pod may take one from is taken; `pools` are their names."""

    def __init__(self, message: str, *, mend: str = "", pools: tuple[str, ...] = ()) -> None:
        super().__init__(message, mend=mend)
        self.pools = pools


class NotOursError(FairwayError):
    """Something of that name is in the kernel, and Fairway did not make it."""


class KernelError(FairwayError):
    """The kernel refused a request; `errno` is its number, `message` holds its own words where it gave any."""

    def __init__(self, message: str, errno: int, *, mend: str = "") -> None:
        super().__init__(message, mend=mend)
        self.errno = errno
