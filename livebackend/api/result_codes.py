"""The result codes of the API, the field `result` of every response."""

from enum import Enum


class ResultCode(Enum):
    """A four-digit result code with its description in Chinese and English."""

    OK = "0000", "成功", "success"
    PHONE_TAKEN = "0001", "该手机号已被注册", "phone number already registered"
    OTHER_ERROR = "0002", "其他错误", "other error: no code was sent"
    INVALID_REQUEST = "0003", "无效请求", "invalid request"
    WRONG_CODE = "0004", "验证码错误", "wrong verification code"
    TOO_MANY_ATTEMPTS = "0005", "验证码错误次数过多", "too many wrong verification codes"
    UNKNOWN_ERROR = "0006", "未知错误", "unknown error"
    UNKNOWN_USER = "0007", "用户不存在", "user not found"
    WRONG_PASSWORD = "0008", "密码错误", "wrong password"
    BAD_REQUEST = "0009", "API错误，bad request", "API error, bad request"
    ALREADY_FRIENDS = "0010", "已经互为好友", "already friends"
    TOKEN_EXPIRED = "0011", "登录已过期", "login token expired"
    TOKEN_INVALID = "0012", "登录凭证缺失或无效", "login token missing or invalid"
    COINS_NOT_UPDATED = "0013", "数据库更新错误", "database update failed"

    code: str
    chinese: str
    english: str

    def __new__(cls, code: str, chinese: str, english: str) -> "ResultCode":
        member = object.__new__(cls)
        member._value_ = code
        member.code = code
        member.chinese = chinese
        member.english = english
        return member
