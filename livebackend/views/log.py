"""/log: login, logout, password change and reset."""

from typing import Annotated

from livebackend.api.base_view import View
from livebackend.api.bilingual_text import documented_field
from livebackend.api.docs_sections import DocsSection
from livebackend.api.operation_declaration import HASH_LIMITS, LOGIN_LIMITS, operation
from livebackend.api.parameter_types import Password, PasswordAttempt, Phone, Seconds, UncheckedText
from livebackend.api.parameters import (
    AuthenticatedParameters,
    ErrorCode,
    Parameters,
)
from livebackend.api.response_types import LoginToken, ResetTicket
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.core.errors import (
    PasswordChanged,
    PasswordTooCommon,
    RateLimited,
    TooManyAttempts,
    UnknownUser,
    WrongCode,
    WrongPassword,
)

ExpireIn = Annotated[
    Seconds,
    documented_field(
        "token lifetime in seconds; default 7 days", "登录凭证有效期（秒），默认7天", 3600
    ),
]


class LogIn(Parameters):
    userId: Annotated[Phone, ErrorCode(ResultCode.UNKNOWN_USER)]
    password: PasswordAttempt
    expire_in: ExpireIn = None


class ChangePassword(AuthenticatedParameters):
    oldPassword: Annotated[
        PasswordAttempt,
        ErrorCode(ResultCode.WRONG_PASSWORD),
        documented_field("current password", "原密码", "harbour-42"),
    ]
    password: Password
    expire_in: ExpireIn = None


class ForgotPassword(Parameters):
    userId: Phone


class ResetPassword(Parameters):
    userId: Phone
    # The texts are not validated, because a malformed code must count as a wrong attempt.
    code_v: Annotated[
        UncheckedText,
        documented_field(
            "message of the forgot_password response", "忘记密码接口返回的 message", "638241"
        ),
    ] = ""
    code: Annotated[
        UncheckedText,
        documented_field("six-digit code from the SMS", "短信中的6位验证码", "638241"),
    ] = ""
    password: Password


class LogViews(View):
    route = "log"
    docs_section = DocsSection.LOGIN

    @operation(
        parameters=LogIn,
        default_error=ResultCode.WRONG_PASSWORD,
        error_codes=[ResultCode.UNKNOWN_USER],
        errors=[UnknownUser, WrongPassword],
        transaction=False,
        service_limits=LOGIN_LIMITS,
        idempotent=True,
        message_type=LoginToken,
    )
    def log_in(self, params: LogIn) -> OperationResponse:
        """Log in · 登录

        Returns a login token, which the other operations need.

        返回登录凭证，其他接口需要该凭证。
        """
        services = self.request.services
        account = services.authentication.log_in(
            phone=params.userId, password=params.password, address=self.request.address
        )
        return success(services.login_tokens.issue(account, lifetime_s=params.expire_in))

    @operation(
        "logout",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.UNKNOWN_ERROR,
        rate_limits=["account_changes"],
        documented=False,
    )
    def log_out(self, params: AuthenticatedParameters) -> OperationResponse:
        """Log out · 退出登录

        Revokes the login token of the request.

        使本次请求的登录凭证失效。
        """
        services = self.request.services
        services.login_tokens.revoke(self.request.db, services.outbox, self.request.claims)
        return success()

    @operation(
        "change",
        parameters=ChangePassword,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.WRONG_PASSWORD],
        errors=[WrongPassword, PasswordTooCommon, PasswordChanged, RateLimited],
        transaction=False,
        service_limits=LOGIN_LIMITS,
        documented=False,
        message_type=LoginToken,
    )
    def change_password(self, params: ChangePassword) -> OperationResponse:
        """Change the password · 修改密码

        Changes the password, revokes all earlier login tokens, and returns a new one.

        修改密码，使之前的登录凭证全部失效，并返回新的登录凭证。
        """
        services, account = self.request.services, self.request.current_user
        services.authentication.reauthenticate(
            account, password=params.oldPassword, address=self.request.address
        )
        updated_account = services.accounts.change_password(
            account, params.password, address=self.request.address
        )
        return success(services.login_tokens.issue(updated_account, lifetime_s=params.expire_in))

    @operation(
        "forgot",
        parameters=ForgotPassword,
        default_error=ResultCode.OTHER_ERROR,
        errors=[RateLimited],
        transaction=False,
        service_limits=["sms_address", "sms_network", "sms_phone", "sms_total"],
        documented=False,
        message_type=ResetTicket,
    )
    def forgot_password(self, params: ForgotPassword) -> OperationResponse:
        """Send a password reset code · 忘记密码

        Sends a six-digit code by SMS if the phone is registered. The response is the same
        if it is not.

        若手机号已注册，通过短信发送六位验证码；未注册时响应相同。
        """
        return success(
            self.request.services.verification_codes.send_password_reset_code(
                params.userId, address=self.request.address
            )
        )

    @operation(
        "reset",
        parameters=ResetPassword,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.WRONG_CODE, ResultCode.TOO_MANY_ATTEMPTS],
        errors=[PasswordTooCommon, WrongCode, TooManyAttempts, RateLimited],
        transaction=False,
        rate_limits=["reset"],
        service_limits=HASH_LIMITS,
        documented=False,
    )
    def reset_password(self, params: ResetPassword) -> OperationResponse:
        """Reset the password · 重置密码

        Sets a new password with the code from the SMS, and revokes all login tokens.

        凭短信验证码设置新密码，并使登录凭证全部失效。
        """
        self.request.services.accounts.reset_password(
            phone=params.userId,
            ticket=params.code_v,
            code=params.code,
            new_password=params.password,
            address=self.request.address,
        )
        return success()
