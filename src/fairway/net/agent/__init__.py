"""The long-lived process of a host."""
