"""Errors, signing and request context.

The package imports no other package of livebackend.
"""
