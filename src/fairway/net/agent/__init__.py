"""The long-lived process of a host: it owns the host, repairs what drifts, and answers on a Unix socket.

Nothing is imported here: a command that asks the agent needs `client` only, and none of what the agent is made of.
"""
