"""What both ends agree on before data flows: TLS, their parameters, the version; and what outlasts the connection."""
