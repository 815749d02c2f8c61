"""Faults under a mixed load, and what each request of the load experiences: `make chaos`."""
