"""The wire: STUN (RFC 8489) and TURN (RFC 8656) messages and state machines, without I/O."""
