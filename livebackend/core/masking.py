"""Masking of personal data in logs and outputs."""


def masked(phone: str) -> str:
    """A phone number as a log may show it."""
    return f"{phone[:3]}****{phone[-4:]}"
