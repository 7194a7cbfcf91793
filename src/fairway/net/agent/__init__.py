"""Room `agent` of the pod network."""
