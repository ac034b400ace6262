"""Sound and video over a packet path. The only package that imports aiortc, av and pylibsrtp."""
