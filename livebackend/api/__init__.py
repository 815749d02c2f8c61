"""The HTTP protocol on Pyramid: declarations, parsing, responses, errors, tweens, OpenAPI."""
