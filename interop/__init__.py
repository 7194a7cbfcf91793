"""The cases of the public QUIC interop runner, run on one machine: `python -m interop`."""
