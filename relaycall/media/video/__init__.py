"""Video over a packet path: from a source to packets, and from packets to a sink."""
