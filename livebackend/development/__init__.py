"""What development and tests use instead of a production service; named in settings only."""
