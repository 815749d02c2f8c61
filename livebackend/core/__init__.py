"""Errors, signing and request context. All packages can import it; it imports none of them."""
