"""A host among its peers: one QUIC connection to each, the exchange of routes over it, joining and renewing.

`part.Part` is what the agent has of it; the rest, and QUIC with it, is loaded when the host belongs to a network.
"""
