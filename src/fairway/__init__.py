"""Fairway: a flat, routed pod network for Linux, and QUIC with HTTP/3, in Python."""

__version__ = "0.1.0"
