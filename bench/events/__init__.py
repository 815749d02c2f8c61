"""Measurements of live events, run by `make bench-events`."""
