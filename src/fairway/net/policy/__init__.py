"""Network policy: documents read, and compiled to what the kernel holds. Pure."""

from fairway.net.policy.compiler import Compiler
from fairway.net.policy.documents import Documents, read_documents

__all__ = ["Compiler", "Documents", "read_documents"]
