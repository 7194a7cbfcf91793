"""Room `reconcile` of the pod network."""
