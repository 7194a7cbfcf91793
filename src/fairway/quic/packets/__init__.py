"""What the bytes of a packet are: headers, first byte, protection. Nothing here knows a connection."""
