"""Tests that crash the server at each request, COMMIT, provider call and response."""
