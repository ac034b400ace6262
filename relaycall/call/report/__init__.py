"""What is told of a call when it is over."""
