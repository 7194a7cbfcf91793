"""Every figure that the README quotes, as a program that measures the peers in the same run."""
