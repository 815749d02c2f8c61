"""Tasks that run periodically, in one server process at a time."""
