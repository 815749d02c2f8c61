"""One file per path of the API; provider callbacks, media server hooks, pages."""
