"""/register: a code for a phone, a try at it, and the account."""

from typing import Annotated, Self

from livebackend.api.declaration import operation
from livebackend.api.error_reasons import Reason
from livebackend.api.errors import Failure
from livebackend.api.forms import Form
from livebackend.api.parameter_types import (
    Gender,
    HeadImage,
    Nickname,
    Password,
    Phone,
    TypedPassword,
    Unchecked,
)
from livebackend.api.parameters import LoggedIn, Params, described
from livebackend.api.response_types import Profile
from livebackend.api.responses import Reply, ok
from livebackend.api.result_codes import Result
from livebackend.api.serializers import profile_card
from livebackend.api.view import View
from livebackend.services.code_verifiers import Purpose

# Who sends one of these beside a `userId` means to register it.
_OF_REGISTER = ("password", "gender", "nickname", "headImage")


class SendCode(Params):
    # Nobody is logged in yet: `token`, the user's identifier, is the phone; `userId` is its alias.
    token: Annotated[
        Phone | None, described("the phone that gets the code", "用户标识：手机号", "13800000001")
    ] = None
    userId: Annotated[
        Phone | None, described("the same, by another name", "同 token", "13800000001")
    ] = None

    @classmethod
    def read(cls, form: Form, *, phones: str) -> Self:
        # Beside one of these it is the phone of a register call that lost its selector.
        if any(map(form.get, _OF_REGISTER)):
            form = {name: value for name, value in form.items() if name != "userId"}
        given = super().read(form, phones=phones)
        # A register call that lost its selector: its user asked for no message.
        if "register" in form:
            raise Failure(None, "register", Reason.NOT_A_VALUE)
        if given.userId not in (None, given.phone):
            raise Failure(None, "userId", Reason.CONTRADICTS)
        return given

    @property
    def phone(self) -> str:
        """The phone, by either name. Raises Failure without one."""
        phone = self.token or self.userId
        if phone is None:
            raise Failure(None, "token", Reason.MISSING)
        return phone


class VerifyCode(Params):
    # Anything at all: a malformed try is a try, and counts.
    code_v: Annotated[
        Unchecked, described("the message of send code", "发送验证码接口返回的 message")
    ] = ""
    code: Annotated[Unchecked, described("the four digits that were sent", "收到的4位验证码")] = ""


class OpenAccount(Params):
    userId: Phone
    password: Password
    headImage: HeadImage | None = None
    gender: Gender | None = None
    nickname: Nickname | None = None


class ChangeProfile(LoggedIn):
    # What is absent stays as it is.
    nickname: Nickname | None = None
    gender: Gender | None = None
    headImage: HeadImage | None = None


class RemoveAccount(LoggedIn):
    password: TypedPassword


class Register(View):
    route = "register"
    chapter = "Joining · 注册"

    @operation(
        params=SendCode,
        refusal=Result.CODE_NOT_SENT,
        codes=[Result.PHONE_TAKEN],
        transaction=False,
        limits=["codes_address"],
        message=str,
    )
    def send_code(self, given: SendCode) -> Reply:
        """Send a code to a phone · 验证码发送"""
        return ok(self.request.services.verification_codes.send(given.phone))

    @operation(
        marks=["code_v", "code"],
        params=VerifyCode,
        refusal=Result.WRONG_CODE,
        codes=[Result.TOO_MANY_TRIES],
    )
    def verify_code(self, given: VerifyCode) -> Reply:
        """Judge a code that was typed · 验证码校验"""
        self.request.services.verification_codes.verify(
            self.request.db,
            ticket=given.code_v,
            code=given.code,
            purpose=Purpose.REGISTER,
        )
        return ok()

    @operation("register", params=OpenAccount, refusal=Result.REFUSED, transaction=False)
    def register(self, given: OpenAccount) -> Reply:
        """Open an account · 注册step2"""
        self.request.services.accounts.register(
            phone=given.userId,
            password=given.password,
            nickname=given.nickname,
            gender=given.gender,
            head_image=given.headImage,
        )
        return ok()

    @operation(
        "profile",
        params=ChangeProfile,
        refusal=Result.REFUSED,
        transaction=False,
        extension=True,
        message=Profile,
    )
    def change_profile(self, given: ChangeProfile) -> Reply:
        """Change one's nickname, gender or picture · 修改资料"""
        profile = self.request.services.accounts.change_profile(
            self.request.account,
            nickname=given.nickname,
            gender=given.gender,
            head_image=given.headImage,
        )
        return ok(profile_card(profile))

    @operation(
        "remove",
        params=RemoveAccount,
        refusal=Result.REFUSED,
        codes=[Result.WRONG_PASSWORD],
        transaction=False,
        extension=True,
    )
    def remove(self, given: RemoveAccount) -> Reply:
        """End one's account, with all that is personal in it · 注销账号"""
        services = self.request.services
        services.authentication.confirm(
            self.request.account, password=given.password, address=self.request.address
        )
        services.accounts.remove(self.request.account)
        return ok()
