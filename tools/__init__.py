"""Generators for files in this repository. They are not part of any distribution."""
