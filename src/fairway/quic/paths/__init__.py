"""The network paths of a connection: found, validated, followed, given up."""
