"""Metrics, health and startup checks, diagnostics, log formatting."""
