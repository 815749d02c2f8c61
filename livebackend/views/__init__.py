"""Views of the API paths, provider callbacks, media server hooks, and pages."""
