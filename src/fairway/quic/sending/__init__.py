"""What goes out: frames into packets, packets into one buffer. Nothing here parses."""
