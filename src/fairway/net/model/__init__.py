"""Room `model` of the pod network."""
