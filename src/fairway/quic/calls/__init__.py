"""What an application calls on a connection: its streams, datagrams and paths."""
