"""/log: login, logout, password change and reset."""

from typing import Annotated

from livebackend.api.base_view import View
from livebackend.api.operation_declaration import HASH_LIMITS, LOGIN_LIMITS, operation
from livebackend.api.parameter_types import Password, PasswordAttempt, Phone, Seconds, UncheckedText
from livebackend.api.parameters import (
    AuthenticatedParameters,
    ErrorCode,
    Parameters,
    documented_field,
)
from livebackend.api.response_types import LoginToken
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode

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
        documented_field("message of the forgot_password response", "忘记密码接口返回的 message"),
    ] = ""
    code: Annotated[
        UncheckedText, documented_field("six-digit code from the SMS", "短信中的6位验证码")
    ] = ""
    password: Password


class LogViews(View):
    route = "log"
    docs_section = "Login · 登录"

    @operation(
        parameters=LogIn,
        default_error=ResultCode.WRONG_PASSWORD,
        error_codes=[ResultCode.UNKNOWN_USER],
        transaction=False,
        service_limits=LOGIN_LIMITS,
        idempotent=True,
        message_type=LoginToken,
    )
    def log_in(self, params: LogIn) -> OperationResponse:
        """Log in · 登录"""
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
        """Log out and revoke the login token · 退出登录"""
        self.request.services.login_tokens.revoke(self.request.db, self.request.claims)
        return success()

    @operation(
        "change",
        parameters=ChangePassword,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.WRONG_PASSWORD],
        transaction=False,
        service_limits=LOGIN_LIMITS,
        documented=False,
        message_type=LoginToken,
    )
    def change_password(self, params: ChangePassword) -> OperationResponse:
        """Change the password; all earlier login tokens are revoked · 修改密码"""
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
        transaction=False,
        service_limits=["sms_address", "sms_network", "sms_phone", "sms_total"],
        documented=False,
        message_type=str,
    )
    def forgot_password(self, params: ForgotPassword) -> OperationResponse:
        """Send a password reset code · 忘记密码"""
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
        transaction=False,
        rate_limits=["reset"],
        service_limits=HASH_LIMITS,
        documented=False,
    )
    def reset_password(self, params: ResetPassword) -> OperationResponse:
        """Reset the password; all login tokens are revoked · 重置密码"""
        self.request.services.accounts.reset_password(
            phone=params.userId,
            ticket=params.code_v,
            code=params.code,
            new_password=params.password,
            address=self.request.address,
        )
        return success()
