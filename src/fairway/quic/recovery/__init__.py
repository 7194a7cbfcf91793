"""What is in flight, lost and due again (RFC 9002)."""
