"""Who is who: keys, cards, sealed envelopes, the handshake of a call, contacts, one-time codes."""
