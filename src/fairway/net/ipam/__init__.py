"""Room `ipam` of the pod network."""
