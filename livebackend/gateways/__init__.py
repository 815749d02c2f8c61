"""Gateways to external services: SMS, streams and payments."""
