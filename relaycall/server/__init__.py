"""The embedded servers: a small TURN relay, for demos, tests and a handful of calls."""
