"""The pod network: model, kernel, ipam, reconcile, agent, explain."""
