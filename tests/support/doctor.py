"""What the tests of `livebackend doctor` share: a provider of SMS, and reading the report."""

from typing import Any

from tests.support.qiniu_server import ACCESS_KEY, SECRET_KEY, QiniuServer, answer

# Qiniu's list of SMS templates: the one of `sms_settings` is approved.
SMS_TEMPLATES = answer(200, {"items": [{"id": "7", "audit_status": "passed"}], "total": 1})


def sms_settings(qiniu: QiniuServer, **changed: str) -> dict[str, Any]:
    """The settings with which codes are sent by that server."""
    return {
        "sms_gateway": "livebackend.gateways.sms.qiniu.QiniuSms",
        "sms_url": qiniu.url,
        "sms_template": "7",
        "qiniu_access_key": ACCESS_KEY,
        "qiniu_secret_key": SECRET_KEY,
        **changed,
    }


def failed_checks(report: dict[str, Any]) -> dict[str, str]:
    """Return the checks that failed, with their messages; each says what to do."""
    assert report["sound"] is all(finding["sound"] for finding in report["findings"])
    found = [finding for finding in report["findings"] if not finding["sound"]]
    assert all(finding["do"] for finding in found)
    return {finding["check"]: finding["says"] for finding in found}
