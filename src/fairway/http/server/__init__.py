"""What `fairway serve` serves."""
