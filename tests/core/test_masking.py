"""Masked phones, as logs and commands show them."""

from livebackend.core.masking import masked


def test_a_masked_phone_keeps_its_ends() -> None:
    assert masked("13812345678") == "138****5678"
