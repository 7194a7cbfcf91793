"""The pod network: model, kernel, ipam, reconcile, host, explain."""
