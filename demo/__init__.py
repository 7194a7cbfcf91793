"""The reference network, started, shown and taken down: `make demo`."""
