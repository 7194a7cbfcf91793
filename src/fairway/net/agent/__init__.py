"""The long-lived process of a host: it owns the host, repairs what drifts, and answers on a Unix socket."""

from fairway.net.agent.agent import Agent
from fairway.net.agent.config import Config, load

__all__ = ["Agent", "Config", "load"]
