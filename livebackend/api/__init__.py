"""The HTTP API on Pyramid: declarations, parsing, responses, tweens, OpenAPI."""
