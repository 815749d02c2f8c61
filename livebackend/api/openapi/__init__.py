"""The OpenAPI documents of the API, generated from the declared operations."""
