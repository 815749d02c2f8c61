"""Masking of personal data in logs and command output."""


def mask_phone(phone: str) -> str:
    """Return a phone number with its middle digits masked, such as `138****5678`."""
    return f"{phone[:3]}****{phone[-4:]}"
