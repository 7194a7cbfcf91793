"""Network policy: documents read, and compiled to what the kernel holds. Pure."""

from fairway.net.policy.compiler import Compiler
from fairway.net.policy.documents import Documents, parse_documents, read_documents

__all__ = ["Compiler", "Documents", "parse_documents", "read_documents"]
