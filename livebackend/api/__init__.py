"""The HTTP API on Pyramid: declarations, parsing, responses, errors, tweens, OpenAPI."""
