"""Frozen values that every room of the pod network speaks in: names, pods, facts, operations, errors."""
