"""Room `explain` of the pod network."""
