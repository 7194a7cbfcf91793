"""HTTP for applications: a server for ASGI and files, a client for httpx and the command line."""
