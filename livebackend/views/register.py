"""/register: verification codes, registration, profile, account deletion."""

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

# Parameters of `register` that `send_code` does not have.
_REGISTER_PARAMETERS = ("password", "gender", "nickname", "headImage")


class SendCode(Params):
    # The API document calls the phone number `token` here; `userId` is an alias.
    token: Annotated[
        Phone | None,
        described("phone number that receives the code", "接收验证码的手机号", "13800000001"),
    ] = None
    userId: Annotated[Phone | None, described("alias of token", "token 的别名", "13800000001")] = (
        None
    )

    @classmethod
    def read(cls, form: Form, *, phones: str) -> Self:
        # A `register` request without its selector: its userId must not receive a code.
        if any(map(form.get, _REGISTER_PARAMETERS)):
            form = {name: value for name, value in form.items() if name != "userId"}
        params = super().read(form, phones=phones)
        # A `register` request whose selector is not "1" must not send a code either.
        if "register" in form:
            raise Failure(None, "register", Reason.NOT_A_VALUE)
        if params.userId not in (None, params.phone):
            raise Failure(None, "userId", Reason.CONTRADICTS)
        return params

    @property
    def phone(self) -> str:
        """The phone number from `token` or `userId`. Raises Failure without one."""
        phone = self.token or self.userId
        if phone is None:
            raise Failure(None, "token", Reason.MISSING)
        return phone


class VerifyCode(Params):
    # Unchecked: a malformed code counts as a wrong attempt.
    code_v: Annotated[
        Unchecked, described("message of the send_code response", "发送验证码接口返回的 message")
    ] = ""
    code: Annotated[Unchecked, described("four-digit code from the SMS", "短信中的4位验证码")] = ""


class RegisterAccount(Params):
    userId: Phone
    password: Password
    headImage: HeadImage | None = None
    gender: Gender | None = None
    nickname: Nickname | None = None


class ChangeProfile(LoggedIn):
    # Absent parameters leave the profile unchanged.
    nickname: Nickname | None = None
    gender: Gender | None = None
    headImage: HeadImage | None = None


class DeleteAccount(LoggedIn):
    password: TypedPassword


class Register(View):
    route = "register"
    chapter = "Registration · 注册"

    @operation(
        params=SendCode,
        refusal=Result.CODE_NOT_SENT,
        codes=[Result.PHONE_TAKEN],
        transaction=False,
        limits=["codes_address"],
        message=str,
    )
    def send_code(self, params: SendCode) -> Reply:
        """Send a verification code · 验证码发送"""
        return ok(self.request.services.verification_codes.send(params.phone))

    @operation(
        marks=["code_v", "code"],
        params=VerifyCode,
        refusal=Result.WRONG_CODE,
        codes=[Result.TOO_MANY_TRIES],
    )
    def verify_code(self, params: VerifyCode) -> Reply:
        """Verify a code · 验证码校验"""
        self.request.services.verification_codes.verify(
            self.request.db,
            ticket=params.code_v,
            code=params.code,
            purpose=Purpose.REGISTER,
        )
        return ok()

    @operation("register", params=RegisterAccount, refusal=Result.REFUSED, transaction=False)
    def register(self, params: RegisterAccount) -> Reply:
        """Register an account · 注册step2"""
        self.request.services.accounts.register(
            phone=params.userId,
            password=params.password,
            nickname=params.nickname,
            gender=params.gender,
            head_image=params.headImage,
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
    def change_profile(self, params: ChangeProfile) -> Reply:
        """Change the profile · 修改资料"""
        profile = self.request.services.accounts.change_profile(
            self.request.account,
            nickname=params.nickname,
            gender=params.gender,
            head_image=params.headImage,
        )
        return ok(profile_card(profile))

    @operation(
        "remove",
        params=DeleteAccount,
        refusal=Result.REFUSED,
        codes=[Result.WRONG_PASSWORD],
        transaction=False,
        extension=True,
    )
    def remove(self, params: DeleteAccount) -> Reply:
        """Delete the account and its personal data · 注销账号"""
        services = self.request.services
        services.authentication.confirm(
            self.request.account, password=params.password, address=self.request.address
        )
        services.accounts.remove(self.request.account)
        return ok()
