"""Replacements of production services for development and tests; settings name them."""
