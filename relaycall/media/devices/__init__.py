"""Microphones and speakers: the extra `audio`."""
