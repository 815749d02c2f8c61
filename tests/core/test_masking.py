"""Masking of phone numbers in logs and command output."""

from livebackend.core.masking import mask_phone


def test_masked_phone_shows_its_first_three_and_last_four_digits() -> None:
    assert mask_phone("13812345678") == "138****5678"
