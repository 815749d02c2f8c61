"""Views: one module per API path, and callbacks, media server hooks, pages."""
