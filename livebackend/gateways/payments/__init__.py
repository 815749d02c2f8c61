"""Payments: the protocol, and WeChat Pay."""
