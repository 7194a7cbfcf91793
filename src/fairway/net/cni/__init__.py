"""CNI: the plugin that container runtimes call, answered by the agent behind a shim that costs next to nothing."""

from fairway.net.cni.call import COMMANDS
from fairway.net.cni.plugin import Done, Plugin
from fairway.net.cni.server import SOCKET
from fairway.net.cni.service import PENDING, Service
from fairway.net.cni.wire import Answer, Request, message_of

__all__ = ["COMMANDS", "PENDING", "SOCKET", "Answer", "Done", "Plugin", "Request", "Service", "message_of"]
