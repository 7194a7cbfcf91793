"""Clients and servers as programs that take a case from their environment, as the images of the public runner do."""
