"""/register: verification codes, registration, profile, account deletion."""

from typing import Annotated, Self

from livebackend.api.base_view import View
from livebackend.api.bilingual_text import documented_field
from livebackend.api.docs_sections import DocsSection
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
from livebackend.api.parameters import AuthenticatedParameters, Parameters, Reasons
from livebackend.api.response_types import OwnProfile, Ticket
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import serialize_own_profile
from livebackend.core.errors import (
    AccountIsLive,
    AccountRemoved,
    MessageNotSent,
    PasswordTooCommon,
    PhoneNotVerified,
    PhoneTaken,
    RateLimited,
    TooManyAttempts,
    UnknownPicture,
    WrongCode,
    WrongPassword,
)
from livebackend.services.code_verifiers import Purpose

# Parameters of `register` that `send_code` does not have.
_REGISTER_PARAMETERS = ("password", "gender", "nickname", "headImage")


class SendCode(Parameters):
    # The API document calls the phone number `token` here; `userId` is an alias.
    token: Annotated[
        Phone | None,
        Reasons(ErrorReason.MISSING),
        documented_field(
            "phone number that receives the code", "接收验证码的手机号", "13800000001"
        ),
    ] = None
    userId: Annotated[
        Phone | None,
        Reasons(ErrorReason.CONFLICTING_PARAMETERS),
        documented_field("alias of token", "token 的别名", "13800000001"),
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
        documented_field(
            "message of the send_code response", "发送验证码接口返回的 message", "6382"
        ),
    ] = ""
    code: Annotated[
        UncheckedText, documented_field("four-digit code from the SMS", "短信中的4位验证码", "6382")
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
    docs_section = DocsSection.REGISTRATION

    @operation(
        parameters=SendCode,
        default_error=ResultCode.OTHER_ERROR,
        error_codes=[ResultCode.PHONE_TAKEN],
        errors=[PhoneTaken, MessageNotSent, RateLimited],
        transaction=False,
        service_limits=["sms_address", "sms_network", "sms_phone", "sms_total"],
        message_type=Ticket,
    )
    def send_code(self, params: SendCode) -> OperationResponse:
        """Send a verification code · 验证码发送

        Sends a four-digit code to a phone number by SMS, and returns the ticket for its
        verification.

        通过短信向手机号发送四位验证码，并返回校验用的票据。
        """
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
        errors=[WrongCode, TooManyAttempts],
        rate_limits=["verify"],
    )
    def verify_code(self, params: VerifyCode) -> OperationResponse:
        """Verify a code · 验证码校验

        Verifies the code from the SMS. The phone can then be registered.

        校验短信验证码。通过后即可用该手机号注册。
        """
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
        errors=[PasswordTooCommon, PhoneNotVerified, PhoneTaken, UnknownPicture, RateLimited],
        transaction=False,
        rate_limits=["register"],
        service_limits=[*UNVERIFIED_LIMITS, *HASH_LIMITS],
    )
    def register(self, params: RegisterAccount) -> OperationResponse:
        """Register an account · 注册step2

        Creates the account of a phone number with a password and a profile.

        为手机号创建账号，设置密码和资料。
        """
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
        errors=[AccountRemoved, UnknownPicture],
        transaction=False,
        rate_limits=["account_changes"],
        documented=False,
        message_type=OwnProfile,
    )
    def change_profile(self, params: ChangeProfile) -> OperationResponse:
        """Change the profile · 修改资料

        Changes the given fields of the profile, and returns the complete profile.

        修改所给的资料项，并返回完整资料。
        """
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
        errors=[WrongPassword, AccountIsLive, AccountRemoved],
        transaction=False,
        service_limits=LOGIN_LIMITS,
        documented=False,
    )
    def remove(self, params: DeleteAccount) -> OperationResponse:
        """Delete the account · 注销账号

        Deletes the account and its personal data. The user must close the room first.

        注销账号并删除个人数据，须先下播。
        """
        services = self.request.services
        services.authentication.reauthenticate(
            self.request.current_user, password=params.password, address=self.request.address
        )
        services.accounts.remove(self.request.current_user)
        return success()
