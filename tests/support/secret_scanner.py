"""Finds in a log what may not stand there."""

import re
from collections.abc import Collection

# What gives a secret away by its looks.
_LOOKS = re.compile(
    r"(?<![0-9])1[0-9]{10}(?![0-9])"  # a phone
    r"|\bey[\w-]{16,}\.[\w-]{16,}"  # a login token, or a ticket
    r"|publishKey"
    r"|\$2[aby]\$[0-9]{2}\$"  # a password's hash
)
# The stand-in for SMS, whose log is the phone.
_EMBEDDED_SMS = re.compile(r"code for 1[0-9]{2}\*{4}[0-9]{4}: (?:[0-9]{4}|[0-9]{6})(?:\"})?$")
_ID = re.compile(r"\b[0-9a-f]{32}\b")


def leaks(log: str, secrets: Collection[str]) -> list[str]:
    """The lines that hold a secret: one of `secrets`, or what looks like one."""
    # Eleven digits of a request's id are no phone.
    log = _ID.sub("", log)
    # To compile a pattern of all secrets takes 5 ms; most logs contain none of them.
    present = sorted(secret for secret in secrets if len(secret) >= 4 and secret in log)
    words = "|".join(rf"(?<!\w){re.escape(secret)}(?!\w)" for secret in present)
    forbidden = re.compile(f"{_LOOKS.pattern}|{words}" if words else _LOOKS.pattern)
    return [
        line
        for line in log.splitlines()
        if forbidden.search(line) and not _EMBEDDED_SMS.search(line)
    ]
