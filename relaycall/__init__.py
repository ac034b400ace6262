"""relaycall: calls in which neither party ever learns the other's IP address."""
