"""Stored pictures: the protocol, local disk, re-encoding."""
