"""Who belongs to a network: its authority, the certificates of its nodes, tokens to join, revocation. No sockets."""

from fairway.net.enrolment.authority import Authority, NodeRecord
from fairway.net.enrolment.blocks import Block
from fairway.net.enrolment.certificate import ANY_NODE, host_name, permit_of, request
from fairway.net.enrolment.membership import Credentials, Membership, Network
from fairway.net.enrolment.messages import (
    Granted,
    JoinRequest,
    Refused,
    RenewRequest,
    decode_answer,
    decode_question,
    encode,
)
from fairway.net.enrolment.revocation import RevocationList
from fairway.net.enrolment.token import Token

__all__ = [
    "ANY_NODE",
    "Authority",
    "Block",
    "Credentials",
    "Granted",
    "JoinRequest",
    "Membership",
    "Network",
    "NodeRecord",
    "Refused",
    "RenewRequest",
    "RevocationList",
    "Token",
    "decode_answer",
    "decode_question",
    "encode",
    "host_name",
    "permit_of",
    "request",
]
