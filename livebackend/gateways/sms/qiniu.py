"""SMS gateway for Qiniu's SMS service."""

import logging
from typing import Self

from livebackend.config.settings import Settings
from livebackend.core.masking import mask_phone
from livebackend.gateways.qiniu import QiniuClient, QiniuFailed
from livebackend.gateways.sms.protocol import SmsFailed

log = logging.getLogger(__name__)

# Qiniu's error codes for problems of the account. No SMS can be sent until the operator has fixed
# the problem.
_ACCOUNT_ERRORS = {
    "AccountBalanceNotEnough",
    "AccountNeedCertified",
    "BadToken",
    "FreezedUserError",
    "InactivatedUseError",
    "NotFoundError",
    "401",
}
# The largest page size of Qiniu's template list.
_MAX_TEMPLATES = 100


class QiniuSms:
    """Sends codes with a Qiniu template that has one parameter, `code`.

    Source: Qiniu SMS, `POST /v1/message/single`. This call is not idempotent, so it is never
    retried.
    """

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create the gateway. Raises ValueError for a missing setting."""
        settings.require("sms.template", "qiniu.access_key", "qiniu.secret_key")
        qiniu = QiniuClient(
            settings.sms_api_url,
            access_key=settings.qiniu_access_key,
            secret_key=settings.qiniu_secret_key.get_secret_value(),
        )
        return cls(qiniu, template=settings.sms_template)

    def __init__(self, qiniu: QiniuClient, *, template: str) -> None:
        self._qiniu = qiniu
        self._template = template

    def send(self, phone: str, code: str) -> None:
        message = {"template_id": self._template, "mobile": phone, "parameters": {"code": code}}
        try:
            response = self._qiniu.call("POST", "/v1/message/single", message)
        except QiniuFailed as error:
            if error.error in _ACCOUNT_ERRORS:
                log.critical("SMS: Qiniu rejects the account, no message can be sent: %s", error)
            else:
                outcome = "outcome unknown" if error.outcome_unknown else "not sent"
                log.error("SMS: message to %s failed, %s: %s", mask_phone(phone), outcome, error)
            raise SmsFailed(error.error) from error
        if not isinstance(response, dict) or not response.get("message_id"):
            log.error("SMS: Qiniu's response for %s has no message_id", mask_phone(phone))
            raise SmsFailed("Qiniu's response has no message_id")
        log.info("SMS: message %s sent to %s", str(response["message_id"])[:64], mask_phone(phone))

    def check(self) -> None:
        """Query the template's state without sending a message. Raises SmsFailed.

        Source: Qiniu SMS, `GET /v1/template`.
        """
        try:
            response = self._qiniu.call("GET", f"/v1/template?page=1&page_size={_MAX_TEMPLATES}")
        except QiniuFailed as error:
            raise SmsFailed(str(error)) from error
        templates = response.get("items", []) if isinstance(response, dict) else []
        state_by_template_id = {
            template.get("id"): template.get("audit_status") for template in templates
        }
        if len(templates) < _MAX_TEMPLATES and self._template not in state_by_template_id:
            raise SmsFailed(f"sms.template: Qiniu's SMS template {self._template} does not exist")
        state = state_by_template_id.get(self._template, "passed")
        if state != "passed":
            raise SmsFailed(
                f"sms.template: Qiniu's SMS template {self._template} has the state {state!r},"
                " but only a template in the state 'passed' can be used"
            )
