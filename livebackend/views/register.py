"""/register: a code for a phone, a try at it, and the account."""

from typing import Any

from livebackend.operation import View, operation
from livebackend.params import Gender, HeadImage, Nickname, Params, Password, Phone
from livebackend.results import Failure, Reason, Result, failed, ok


class SendCode(Params):
    # Nobody is logged in yet: `token`, the user's identifier, is the phone.
    token: Phone | None = None
    userId: Phone | None = None
    # Signs of a register call that lost its selector: its user asked for no message.
    register: Any = None
    password: Any = None
    gender: Any = None
    nickname: Any = None
    headImage: Any = None

    def phone(self) -> str:
        """Fails with: the refusal code, for no phone or for two."""
        lost = (self.register, self.password, self.gender, self.nickname, self.headImage)
        alias = self.userId if lost == (None,) * len(lost) else None
        phones = {self.token, alias} - {None}
        if len(phones) > 1:
            raise Failure(None, "userId", Reason.CONTRADICTS)
        for phone in phones:
            return phone
        raise Failure(None, "token", Reason.MISSING)


class VerifyCode(Params):
    # Anything at all: a malformed try is a try, and counts.
    code_v: Any = None
    code: Any = None


class OpenAccount(Params):
    userId: Phone
    password: Password
    headImage: HeadImage | None = None
    gender: Gender | None = None
    nickname: Nickname | None = None


class Register(View):
    route = "register"

    @operation(
        params=SendCode,
        refusal=Result.CODE_NOT_SENT,
        codes=[Result.PHONE_TAKEN],
        transaction=False,
    )
    def send_code(self, given):
        """Send a code to a phone · 验证码发送"""
        return ok(self.request.house.codes.send(given.phone()))

    @operation(
        marks=["code_v", "code"],
        params=VerifyCode,
        refusal=Result.WRONG_CODE,
        codes=[Result.TOO_MANY_TRIES],
    )
    def verify_code(self, given):
        """Judge a code that was typed · 验证码校验"""
        verdict = self.request.house.codes.verify(
            self.request.db, code_v=str(given.code_v or ""), code=str(given.code or "")
        )
        # A wrong try stays counted: returning commits.
        return ok() if verdict is Result.OK else failed(verdict, "code", Reason.WRONG)

    @operation("register", params=OpenAccount, refusal=Result.REFUSED, transaction=False)
    def register(self, given):
        """Open an account · 注册step2"""
        self.request.house.accounts.register(
            phone=given.userId,
            password=given.password,
            nickname=given.nickname,
            gender=given.gender,
            head_image=given.headImage,
        )
        return ok()
