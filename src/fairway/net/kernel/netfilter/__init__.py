"""Netfilter: our tables of nftables, other programs' chains, and the connections that the kernel tracks."""
