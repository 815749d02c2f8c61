"""Live events: declarations, channels, outbox, relay, and the tickets of subscribers."""
