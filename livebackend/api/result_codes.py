"""The result codes of the API, the field `result` of every response."""

from enum import Enum


class ResultCode(Enum):
    """A four-digit result code with its description in English and Chinese."""

    OK = "0000", "success", "成功"
    PHONE_TAKEN = "0001", "phone number already registered", "该手机号已被注册"
    OTHER_ERROR = "0002", "other error: no code was sent", "其他错误"
    INVALID_REQUEST = "0003", "invalid request", "无效请求"
    WRONG_CODE = "0004", "wrong verification code", "验证码错误"
    TOO_MANY_ATTEMPTS = "0005", "too many wrong verification codes", "验证码错误次数过多"
    UNKNOWN_ERROR = "0006", "unknown error", "未知错误"
    UNKNOWN_USER = "0007", "user not found", "用户不存在"
    WRONG_PASSWORD = "0008", "wrong password", "密码错误"
    BAD_REQUEST = "0009", "API error, bad request", "API错误，bad request"
    ALREADY_FRIENDS = "0010", "already friends", "已经互为好友"
    TOKEN_EXPIRED = "0011", "login token expired", "登录已过期"
    TOKEN_INVALID = "0012", "login token missing or invalid", "登录凭证缺失或无效"
    COINS_NOT_UPDATED = "0013", "database update failed", "数据库更新错误"

    code: str
    english: str
    chinese: str

    def __new__(cls, code: str, english: str, chinese: str) -> "ResultCode":
        member = object.__new__(cls)
        member._value_ = code
        member.code = code
        member.english = english
        member.chinese = chinese
        return member
