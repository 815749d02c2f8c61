"""Benchmarks of the application. The application does not import them."""
