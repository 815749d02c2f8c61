"""Helpers for tests of `livebackend doctor`."""

from typing import Any

from tests.support.qiniu_server import ACCESS_KEY, SECRET_KEY, QiniuServer, response_writer

# Qiniu's response with the list of SMS templates, in which the template of `sms_settings` is
# approved.
SMS_TEMPLATES = response_writer(200, {"items": [{"id": "7", "audit_status": "passed"}], "total": 1})


def sms_settings(qiniu: QiniuServer, **changed_settings: str) -> dict[str, Any]:
    """Return the settings to send SMS through a fake Qiniu server."""
    return {
        "sms_gateway": "livebackend.gateways.sms.qiniu.QiniuSms",
        "sms_api_url": qiniu.url,
        "sms_template": "7",
        "qiniu_access_key": ACCESS_KEY,
        "qiniu_secret_key": SECRET_KEY,
        **changed_settings,
    }


def failed_checks(report: dict[str, Any]) -> dict[str, str]:
    """Return the message of each failed check; each failed check must have a remedy."""
    assert report["passed"] is all(result["passed"] for result in report["checks"])
    failed_results = [result for result in report["checks"] if not result["passed"]]
    assert all(result["remedy"] for result in failed_results)
    return {result["check"]: result["message"] for result in failed_results}
