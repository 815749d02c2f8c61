"""Finds secrets and personal data in a log."""

import re
from collections.abc import Collection

_SECRET_PATTERN = re.compile(
    r"(?<![0-9])1[0-9]{10}(?![0-9])"  # a phone number
    r"|\bey[\w-]{16,}\.[\w-]{16,}"  # a login token, or a ticket
    r"|publishKey"
    r"|\$2[aby]\$[0-9]{2}\$"  # a password's hash
    r"|://[^\s/@:]*:(?!\*\*\*@)[^\s/@]+@"  # a URL with a password; SQLAlchemy shows it as ***
    # The header, but not the logger livebackend.services.publish_authorization.
    r"|(?<!\w)(?i:authorization)['\"]?\s*[:=]"
    r"|\b(?:Bearer|Qiniu|QBox|WECHATPAY2-SHA256-RSA2048) \S{8}"
    r"|[?&](?i:token|password|oldPassword|code|code_v|key|secret|sign|signature)=[^\s&*]"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
# Log line in which the development SMS gateway prints a verification code; it is allowed.
_ALLOWED_SMS_LINE = re.compile(r"code for 1[0-9]{2}\*{4}[0-9]{4}: (?:[0-9]{4}|[0-9]{6})(?:\"})?$")
# Request ids, hashes, stream keys and UUIDs, of which 11 digits can look like a phone number.
_HEXADECIMAL_ID_PATTERN = re.compile(
    r"\b(?:[0-9a-f]{24,128}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b"
)


def find_leaks(log: str, secrets: Collection[str]) -> list[str]:
    """Return the lines that contain one of `secrets`, or match a pattern of secrets."""
    log = _HEXADECIMAL_ID_PATTERN.sub("", log)
    # Only secrets in the log become a pattern: compiling a pattern of all secrets takes 5 ms.
    secrets_in_log = sorted(secret for secret in secrets if len(secret) >= 4 and secret in log)
    secret_words_pattern = "|".join(
        rf"(?<!\w){re.escape(secret)}(?!\w)" for secret in secrets_in_log
    )
    forbidden_pattern = re.compile(
        f"{_SECRET_PATTERN.pattern}|{secret_words_pattern}"
        if secret_words_pattern
        else _SECRET_PATTERN.pattern
    )
    return [
        line
        for line in log.splitlines()
        if forbidden_pattern.search(line) and not _ALLOWED_SMS_LINE.search(line)
    ]
