"""Room `kernel` of the pod network."""
