"""/register: verification codes, registration, profile, account deletion."""

from typing import Annotated, Self

from livebackend.api.base_view import View
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidParameter
from livebackend.api.forms import Form
from livebackend.api.operation_declaration import (
    HASH_LIMITS,
    LOGIN_LIMITS,
    UNVERIFIED_LIMITS,
    operation,
)
from livebackend.api.parameter_types import (
    Gender,
    HeadImage,
    Nickname,
    Password,
    PasswordAttempt,
    Phone,
    UncheckedText,
)
from livebackend.api.parameters import AuthenticatedParameters, Parameters, documented_field
from livebackend.api.response_types import OwnProfile
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import serialize_own_profile
from livebackend.services.code_verifiers import Purpose

# Parameters of `register` that `send_code` does not have.
_REGISTER_PARAMETERS = ("password", "gender", "nickname", "headImage")


class SendCode(Parameters):
    # The API document calls the phone number `token` here; `userId` is an alias.
    token: Annotated[
        Phone | None,
        documented_field(
            "phone number that receives the code", "接收验证码的手机号", "13800000001"
        ),
    ] = None
    userId: Annotated[
        Phone | None, documented_field("alias of token", "token 的别名", "13800000001")
    ] = None

    @classmethod
    def parse(cls, form: Form, *, phone_pattern: str) -> Self:
        # A parameter of `register` shows that the client forgot the selector `register`. Then the
        # phone in `userId` must not receive a code.
        if any(map(form.get, _REGISTER_PARAMETERS)):
            form = {name: value for name, value in form.items() if name != "userId"}
        params = super().parse(form, phone_pattern=phone_pattern)
        # A `register` request whose selector is not "1" must not send a code either.
        if "register" in form:
            raise InvalidParameter(None, "register", ErrorReason.INVALID_VALUE)
        if params.userId not in (None, params.phone):
            raise InvalidParameter(None, "userId", ErrorReason.CONFLICTING_PARAMETERS)
        return params

    @property
    def phone(self) -> str:
        """The phone number in `token` or `userId`.

        Raises InvalidParameter if both are missing.
        """
        phone = self.token or self.userId
        if phone is None:
            raise InvalidParameter(None, "token", ErrorReason.MISSING)
        return phone


class VerifyCode(Parameters):
    # The texts are not validated, because a malformed code must count as a wrong attempt.
    code_v: Annotated[
        UncheckedText,
        documented_field("message of the send_code response", "发送验证码接口返回的 message"),
    ] = ""
    code: Annotated[
        UncheckedText, documented_field("four-digit code from the SMS", "短信中的4位验证码")
    ] = ""


class RegisterAccount(Parameters):
    userId: Phone
    password: Password
    headImage: HeadImage | None = None
    gender: Gender | None = None
    nickname: Nickname | None = None


class ChangeProfile(AuthenticatedParameters):
    # An absent parameter leaves its field of the profile unchanged.
    nickname: Nickname | None = None
    gender: Gender | None = None
    headImage: HeadImage | None = None


class DeleteAccount(AuthenticatedParameters):
    password: PasswordAttempt


class RegisterViews(View):
    route = "register"
    docs_section = "Registration · 注册"

    @operation(
        parameters=SendCode,
        default_error=ResultCode.OTHER_ERROR,
        error_codes=[ResultCode.PHONE_TAKEN],
        transaction=False,
        service_limits=["sms_address", "sms_network", "sms_phone", "sms_total"],
        message_type=str,
    )
    def send_code(self, params: SendCode) -> OperationResponse:
        """Send a verification code · 验证码发送"""
        return success(
            self.request.services.verification_codes.send_registration_code(
                params.phone, address=self.request.address
            )
        )

    @operation(
        presence_selectors=["code_v", "code"],
        parameters=VerifyCode,
        default_error=ResultCode.WRONG_CODE,
        error_codes=[ResultCode.TOO_MANY_ATTEMPTS],
        rate_limits=["verify"],
    )
    def verify_code(self, params: VerifyCode) -> OperationResponse:
        """Verify a code · 验证码校验"""
        self.request.services.verification_codes.verify(
            self.request.db,
            ticket=params.code_v,
            code=params.code,
            purpose=Purpose.REGISTER,
            address=self.request.address,
        )
        return success()

    @operation(
        "register",
        parameters=RegisterAccount,
        default_error=ResultCode.UNKNOWN_ERROR,
        transaction=False,
        rate_limits=["register"],
        service_limits=[*UNVERIFIED_LIMITS, *HASH_LIMITS],
    )
    def register(self, params: RegisterAccount) -> OperationResponse:
        """Register an account · 注册step2"""
        self.request.services.accounts.register(
            phone=params.userId,
            password=params.password,
            nickname=params.nickname,
            gender=params.gender,
            head_image=params.headImage,
            address=self.request.address,
        )
        return success()

    @operation(
        "profile",
        parameters=ChangeProfile,
        default_error=ResultCode.UNKNOWN_ERROR,
        transaction=False,
        rate_limits=["account_changes"],
        documented=False,
        message_type=OwnProfile,
    )
    def change_profile(self, params: ChangeProfile) -> OperationResponse:
        """Change the profile · 修改资料"""
        profile = self.request.services.accounts.change_profile(
            self.request.current_user,
            nickname=params.nickname,
            gender=params.gender,
            head_image=params.headImage,
        )
        return success(serialize_own_profile(profile))

    @operation(
        "remove",
        parameters=DeleteAccount,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.WRONG_PASSWORD],
        transaction=False,
        service_limits=LOGIN_LIMITS,
        documented=False,
    )
    def remove(self, params: DeleteAccount) -> OperationResponse:
        """Delete the account and its personal data · 注销账号"""
        services = self.request.services
        services.authentication.reauthenticate(
            self.request.current_user, password=params.password, address=self.request.address
        )
        services.accounts.remove(self.request.current_user)
        return success()
