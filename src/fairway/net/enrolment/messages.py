"""What a host that joins or renews, and the authority, say to each other: one question and one answer, as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from fairway.net.model.errors import FairwayError
from fairway.net.model.names import check_name

MAX_BYTES = 65_536
"""A question or an answer; longer ones are not read."""


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """A host wants to be `node`; `number` is its token's, and `proof` what that makes of this request."""

    node: str
    number: bytes
    proof: bytes
    request: bytes
    """The certificate signing request, DER."""


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """A node, known by the certificate of its connection, wants the next one."""

    request: bytes


@dataclass(frozen=True, slots=True)
class Granted:
    """The node's new certificate with the authority's (DER), and what it has to know of the network."""

    certificate: bytes
    authority: bytes
    network: str
    """The network's description: `Network.as_json`."""
    revocations: bytes = b""
    signature: bytes = b""
    """The authority's, of `signed`: who hands the answer on can change nothing of it, and leave nothing out."""

    @property
    def signed(self) -> bytes:
        """What the authority signs with ECDSA and SHA-256, bound to this one certificate; no certificate begins so."""
        parts = (self.certificate, self.network.encode(), self.revocations)
        return b"fairway grant\0" + b"".join(hashlib.sha256(part).digest() for part in parts)


@dataclass(frozen=True, slots=True)
class Refused:
    """No; `elsewhere` is where the authority is, as HOST:PORT, if it is only that."""

    message: str
    mend: str = ""
    elsewhere: tuple[str, ...] = ()


Question = JoinRequest | RenewRequest
Answer = Granted | Refused
_KINDS: dict[str, type[Question | Answer]] = {
    "join": JoinRequest,
    "renew": RenewRequest,
    "granted": Granted,
    "refused": Refused,
}


def encode(message: Question | Answer) -> bytes:
    """The message as JSON."""
    kind = next(name for name, each in _KINDS.items() if isinstance(message, each))
    return json.dumps({"kind": kind} | {key: _plain(value) for key, value in asdict(message).items()}).encode()


def decode_question(data: bytes) -> Question:
    """The question; `FairwayError` if it is none."""
    message = _decode(data)
    if isinstance(message, JoinRequest):
        check_name("node", message.node)
        return message
    if isinstance(message, RenewRequest):
        return message
    raise FairwayError("an answer where a question was expected")


def decode_answer(data: bytes) -> Answer:
    """The answer; `FairwayError` if it is none."""
    message = _decode(data)
    if isinstance(message, Granted | Refused):
        return message
    raise FairwayError("a question where an answer was expected")


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _decode(data: bytes) -> Question | Answer:
    try:
        fields = json.loads(data)
        kind = _KINDS[fields.pop("kind")]
        types = {name: str(each.type) for name, each in kind.__dataclass_fields__.items()}
        return kind(**{name: _typed(types[name], value) for name, value in fields.items()})
    except Exception as error:  # what a stranger sent may be anything; recursion, too
        raise FairwayError(f"what the peer said is not understood: {type(error).__name__}") from None


def _typed(kind: str, value: Any) -> Any:
    if kind == "bytes":
        return base64.b64decode(value, validate=True)
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "tuple[str, ...]" and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ValueError(kind)
