"""Error reasons: stable tokens with messages in English and Chinese."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from string import Formatter


class ErrorReason(StrEnum):
    """A stable token that clients can compare, with an English and a Chinese message.

    A message continues a sentence that starts with the name of the wrong parameter. The response
    contains the values of the placeholders `{min}` and `{max}`.
    """

    MISSING = "missing", "is missing", "缺失"
    TOO_SHORT = "too_short", "has fewer than {min} characters", "少于 {min} 个字符"
    TOO_LONG = "too_long", "has more than {max} characters", "超过 {max} 个字符"
    CONTROL_CHARACTER = "control_character", "contains a control character", "含有控制字符"
    NOT_A_PHONE_NUMBER = "not_a_phone_number", "is not a phone number", "不是有效的手机号"
    NOT_A_NUMBER = (
        "not_a_number",
        "is not a whole number from {min} to {max}",
        "不是 {min} 到 {max} 之间的整数",
    )
    NOT_AN_AMOUNT = "not_an_amount", "is not an amount that is for sale", "不是可充值的金额"
    NOT_A_FILE = "not_a_file", "is not a file", "不是文件"
    NOT_AN_IMAGE = "not_an_image", "is not an image that the server accepts", "不是可接受的图片"
    NOT_A_MESSAGE_ID = "not_a_message_id", "is not a message ID", "不是有效的消息标识"
    NOT_A_CURSOR = "not_a_cursor", "is not a cursor of this list", "不是该列表的翻页标识"
    NOT_A_REQUEST_ID = "not_a_request_id", "is not a valid idempotency key", "不是有效的幂等键"
    INVALID_VALUE = "invalid_value", "is not an allowed value", "取值不合法"
    WEAK_PASSWORD = "weak_password", "needs a letter and a digit", "须同时包含字母和数字"
    COMMON_PASSWORD = "common_password", "is easy to guess", "过于简单，容易被猜中"
    CONFLICTING_PARAMETERS = (
        "conflicting_parameters",
        "differs from the parameter of the same meaning",
        "与同义参数的值不一致",
    )
    INVALID_TOKEN = "invalid_token", "is not a valid login token", "登录凭证无效"
    TOKEN_EXPIRED = "token_expired", "has expired", "登录凭证已过期"
    TOO_MANY_STREAMS = (
        "too_many_streams",
        "exceeds the limit of event streams of the account or the client address",
        "超出该账号或该地址的事件流数量上限",
    )
    INVALID_TICKET = "invalid_ticket", "is not valid, or has expired", "票据无效或已过期"
    UNKNOWN_USER = "unknown_user", "is not registered", "该用户不存在"
    OWN_ACCOUNT = "own_account", "is the user's own account", "不能对自己操作"
    ACCOUNT_REMOVED = "account_removed", "belongs to a removed account", "账号已注销"
    ROOM_OPEN = "room_open", "is open; leave it first", "直播间未关闭，请先下播"
    ALREADY_REGISTERED = "already_registered", "is registered already", "该手机号已注册"
    PHONE_NOT_VERIFIED = "phone_not_verified", "is not verified", "手机号未验证"
    WRONG_PASSWORD = (
        "wrong_password",
        "is wrong, or had too many attempts",
        "密码错误或尝试次数过多",
    )
    PASSWORD_CHANGED = (
        "password_changed",
        "was changed by another request",
        "密码已被其他请求修改",
    )
    WRONG_CODE = "wrong_code", "is wrong, used or expired", "验证码错误或已失效"
    TOO_MANY_ATTEMPTS = "too_many_attempts", "had too many wrong attempts", "错误次数过多"
    RATE_LIMITED = (
        "rate_limited",
        "reached a rate limit; retry after the seconds in Retry-After",
        "请求过于频繁，请在 Retry-After 指定的秒数后重试",
    )
    PICTURE_NOT_STORED = "picture_not_stored", "could not be stored", "图片保存失败"
    UNKNOWN_PICTURE = (
        "unknown_picture",
        "was not uploaded to this server, or is another user's avatar",
        "不是本服务器上传的图片，或已被其他用户使用",
    )
    ALREADY_FRIENDS = "already_friends", "is a friend already", "已经是好友"
    NOT_FRIENDS = "not_friends", "is not a friend", "不是好友"
    TOO_MANY_FRIENDS = (
        "too_many_friends",
        "belongs to a user with {max} friends, the most allowed",
        "好友数已达上限 {max}",
    )
    USER_BLOCKED = "user_blocked", "is blocked; unblock the user first", "已被你拉黑，请先解除"
    TOO_MANY_BLOCKED_USERS = (
        "too_many_blocked_users",
        "would exceed the limit of {max} blocked users",
        "拉黑人数已达上限 {max}",
    )
    UNKNOWN_MESSAGE = "unknown_message", "is not the ID of a message of the user", "消息不存在"
    MESSAGE_IDS_MISMATCH = (
        "message_ids_mismatch",
        "and objectId are not of the same message",
        "与 objectId 不属于同一条消息",
    )
    MESSAGE_OF_ANOTHER_USER = (
        "message_of_another_user",
        "is not the other user of this message",
        "与该消息无关",
    )
    REQUEST_NOT_OPEN = (
        "request_not_open",
        "is not the ID of an open friend request",
        "好友申请不存在或已处理",
    )
    ROOM_NOT_OPEN = "room_not_open", "is not open", "直播间未开启"
    INSUFFICIENT_COINS = "insufficient_coins", "exceeds the balance", "金币不足"
    BALANCE_LIMIT = "balance_limit", "would exceed the balance limit", "超出金币余额上限"
    REQUEST_ID_REUSED = (
        "request_id_reused",
        "was used for a request with other content",
        "已用于内容不同的请求",
    )
    LEDGER_BUSY = "ledger_busy", "was not processed in time; no coins moved", "账本繁忙，金币未变动"
    REFILLS_DISABLED = "refills_disabled", "is disabled on this server", "本服务器未开放充值"
    INVALID_NOTIFICATION = (
        "invalid_notification",
        "was not sent by the payment provider",
        "不是支付服务商发送的通知",
    )
    UNKNOWN_ORDER = "unknown_order", "does not exist", "订单不存在"
    WRONG_AMOUNT = "wrong_amount", "differs from the ordered amount", "与订单金额不一致"
    ORDER_ALREADY_PAID = (
        "order_already_paid",
        "was paid by another payment",
        "订单已由另一笔支付完成",
    )
    PAYMENT_OF_ANOTHER_ORDER = (
        "payment_of_another_order",
        "belongs to another order",
        "该支付属于另一笔订单",
    )
    UPSTREAM_FAILED = "upstream_failed", "failed at the provider", "服务商处理失败"
    UNKNOWN_PATH = "unknown_path", "is not a path of this API", "路径不存在"
    METHOD_NOT_ALLOWED = "method_not_allowed", "is not allowed on this path", "请求方法不允许"
    HTTPS_REQUIRED = "https_required", "is not HTTPS", "必须使用 HTTPS"
    UNTRUSTED_PROXY = (
        "untrusted_proxy",
        "sends requests over a unix socket, but http.trusted_proxies does not contain `unix`",
        "通过 unix socket 转发请求，但 http.trusted_proxies 中没有 unix",
    )
    ORIGIN_NOT_ALLOWED = (
        "origin_not_allowed",
        "is not allowed to send requests to this server",
        "不是允许调用本服务器的网页来源",
    )
    UNSUPPORTED_MEDIA_TYPE = (
        "unsupported_media_type",
        "is not a form in UTF-8",
        "不是 UTF-8 编码的表单",
    )
    MALFORMED_FORM = "malformed_form", "is malformed", "表单格式错误"
    TOO_LARGE = "too_large", "has more than {max} bytes", "超过 {max} 字节"
    TOO_MANY_FIELDS = "too_many_fields", "has more than {max} fields", "字段数超过 {max}"
    DUPLICATE_PARAMETER = "duplicate_parameter", "occurs more than once", "参数重复"
    NO_SELECTOR = "no_selector", "selects no operation", "未选择接口"
    SEVERAL_SELECTORS = "several_selectors", "selects several operations", "同时选择了多个接口"
    QUERY_NOT_ALLOWED = (
        "query_not_allowed",
        "is not allowed; use the form",
        "不允许查询参数，请用表单提交",
    )
    INVALID_SIGNATURE = "invalid_signature", "is not valid", "签名无效"
    INVALID_SECRET = "invalid_secret", "is not valid", "密钥无效"
    SERVICE_UNAVAILABLE = (
        "service_unavailable",
        "failed: try again later",
        "服务暂不可用，请稍后重试",
    )
    INTERNAL_ERROR = "internal_error", "failed because of a server error", "服务器内部错误"

    english: str
    chinese: str
    # The names of the limits in the message.
    limits: tuple[str, ...]

    def __new__(cls, token: str, english: str, chinese: str) -> "ErrorReason":
        member = str.__new__(cls, token)
        member._value_ = token
        member.english = english
        member.chinese = chinese
        member.limits = tuple(name for _, name, _, _ in Formatter().parse(english) if name)
        return member


@dataclass(frozen=True)
class ErrorDetail:
    """The wrong parameter (or another wrong part of the request) and the error reason.

    Raises ValueError unless `limits` has exactly the limits that the reason names.
    """

    parameter: str
    reason: ErrorReason
    limits: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.limits) != set(self.reason.limits):
            raise ValueError(
                f"error reason {self.reason} needs values for {self.reason.limits},"
                f" got {tuple(self.limits)}"
            )

    @property
    def header(self) -> str:
        """The header `X-Error`, such as `nickname; reason=too_long; max=32`."""
        limits = "".join(f"; {name}={value}" for name, value in self.limits.items())
        return f"{self.parameter}; reason={self.reason}{limits}"

    @property
    def message(self) -> str:
        """The English message with the parameter and the limits."""
        return f"{self.parameter} {self.reason.english.format(**self.limits)}"
