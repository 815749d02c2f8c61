"""Text messages through Qiniu."""

import logging
from typing import Self

from livebackend.config.settings import Settings
from livebackend.core.masking import masked
from livebackend.gateways.qiniu import Qiniu, QiniuFailed
from livebackend.gateways.sms.protocol import SmsFailed

log = logging.getLogger(__name__)

# What somebody has to mend before any message goes out again.
_OPERATORS = {
    "AccountBalanceNotEnough",
    "AccountNeedCertified",
    "BadToken",
    "FreezedUserError",
    "InactivatedUseError",
    "NotFoundError",
    "401",
}
# As many as it lists in one answer.
_TEMPLATES_MAX = 100


class QiniuSms:
    """Sends codes by a template of Qiniu's that has one parameter, `code`.

    Source: Qiniu SMS, `POST /v1/message/single`. It is not idempotent, so nothing is ever sent
    again by itself.
    """

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raises ValueError for a setting that is missing."""
        settings.require("sms.template", "qiniu.access_key", "qiniu.secret_key")
        qiniu = Qiniu(
            settings.sms_url,
            access_key=settings.qiniu_access_key,
            secret_key=settings.qiniu_secret_key.get_secret_value(),
        )
        return cls(qiniu, template=settings.sms_template)

    def __init__(self, qiniu: Qiniu, *, template: str) -> None:
        self._qiniu = qiniu
        self._template = template

    def send(self, phone: str, code: str) -> None:
        message = {"template_id": self._template, "mobile": phone, "parameters": {"code": code}}
        try:
            answer = self._qiniu.call("POST", "/v1/message/single", message)
        except QiniuFailed as error:
            if error.error in _OPERATORS:
                log.critical("no message can be sent until Qiniu's account is mended: %s", error)
            else:
                unknown = ", perhaps sent" if error.outcome_unknown else ""
                log.error("message to %s failed%s: %s", masked(phone), unknown, error)
            raise SmsFailed(error.error) from error
        if not isinstance(answer, dict) or not answer.get("message_id"):
            log.error("message to %s: Qiniu's answer names none", masked(phone))
            raise SmsFailed("no message_id")
        log.info("message to %s is %s", masked(phone), str(answer["message_id"])[:64])

    def check(self) -> None:
        """Asks Qiniu about the template, which sends nothing; SmsFailed says what to mend.

        Source: Qiniu SMS, `GET /v1/template`.
        """
        try:
            answer = self._qiniu.call("GET", f"/v1/template?page=1&page_size={_TEMPLATES_MAX}")
        except QiniuFailed as error:
            raise SmsFailed(str(error)) from error
        templates = answer.get("items", []) if isinstance(answer, dict) else []
        states = {each.get("id"): each.get("audit_status") for each in templates}
        if len(templates) < _TEMPLATES_MAX and self._template not in states:
            raise SmsFailed(f"there is no template {self._template}")
        if states.get(self._template, "passed") != "passed":
            raise SmsFailed(f"template {self._template} is {states[self._template]}, not passed")
