"""CNI: the plugin that container runtimes call, answered by the agent behind a shim that costs next to nothing."""

from fairway.net.cni.plugin import Done, Plugin
from fairway.net.cni.server import SOCKET
from fairway.net.cni.service import PENDING, Service
from fairway.net.cni.wire import Answer, Request

__all__ = ["PENDING", "SOCKET", "Answer", "Done", "Plugin", "Request", "Service"]
