"""Ordered bytes over packets, and their flow control."""
