"""Crash tests of operations with side effects, with a crash at each step of the server."""
