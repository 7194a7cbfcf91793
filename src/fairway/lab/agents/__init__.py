"""The agents of a lab's nodes: a process each, in the node's namespace, members of one network of the lab's own."""
