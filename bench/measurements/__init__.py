"""The measurements of `make bench`, by subject."""
