"""What both ends agree on before data flows: TLS, transport parameters, version, and what outlasts the connection."""
