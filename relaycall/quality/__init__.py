"""How a call is: samples in, decisions out. Without I/O: time comes in as an argument."""
