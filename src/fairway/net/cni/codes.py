"""What can go wrong, as CNI tells it: a code, a message, details (CNI 1.1.0, section 5, "Error")."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Up to 99 the SPEC's, from 100 on Fairway's own."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    INVALID_ENVIRONMENT = 4
    UNREADABLE = 5
    UNDECODABLE = 6
    INVALID_CONFIGURATION = 7
    TRY_AGAIN = 11
    UNAVAILABLE = 50  # STATUS
    EXISTS = 100  # the container has an interface of that name, or that attachment
    NO_ADDRESS = 101  # every pool is used up
    REFUSED = 102  # the kernel, or the disk
    DAMAGED = 103  # CHECK: something is not as ADD left it
    INCOMPLETE = 104  # GC: something could not be taken away
    INTERNAL = 199  # a defect of Fairway's


class CniError(Exception):
    """A call that fails. `details` says what mends it, where something does."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
