"""/log: login, logout, password change and reset."""

from typing import Annotated

from livebackend.api.declaration import operation
from livebackend.api.parameter_types import Password, Phone, Seconds, TypedPassword, Unchecked
from livebackend.api.parameters import ErrorCode, LoggedIn, Params, described
from livebackend.api.response_types import LoginToken
from livebackend.api.responses import Reply, ok
from livebackend.api.result_codes import Result
from livebackend.api.view import View

ExpireIn = Annotated[
    Seconds,
    described("token lifetime in seconds; default 7 days", "登录凭证有效期（秒），默认7天", 3600),
]


class LogIn(Params):
    userId: Annotated[Phone, ErrorCode(Result.NO_SUCH_USER)]
    password: TypedPassword
    expire_in: ExpireIn = None


class ChangePassword(LoggedIn):
    oldPassword: Annotated[
        TypedPassword,
        ErrorCode(Result.WRONG_PASSWORD),
        described("current password", "原密码", "harbour-42"),
    ]
    password: Password
    expire_in: ExpireIn = None


class ForgotPassword(Params):
    userId: Phone


class ResetPassword(Params):
    userId: Phone
    # Unchecked: a malformed code counts as a wrong attempt.
    code_v: Annotated[
        Unchecked,
        described("message of the forgot_password response", "忘记密码接口返回的 message"),
    ] = ""
    code: Annotated[Unchecked, described("six-digit code from the SMS", "短信中的6位验证码")] = ""
    password: Password


class Log(View):
    route = "log"
    chapter = "Login · 登录"

    @operation(
        params=LogIn,
        refusal=Result.WRONG_PASSWORD,
        codes=[Result.NO_SUCH_USER],
        transaction=False,
        repeatable=True,
        message=LoginToken,
    )
    def log_in(self, params: LogIn) -> Reply:
        """Log in · 登录"""
        services = self.request.services
        account = services.authentication.log_in(
            phone=params.userId, password=params.password, address=self.request.address
        )
        return ok(services.login_tokens.issue(account, lifetime_s=params.expire_in))

    @operation("logout", params=LoggedIn, refusal=Result.REFUSED, extension=True)
    def log_out(self, params: LoggedIn) -> Reply:
        """Log out and revoke the login token · 退出登录"""
        self.request.services.login_tokens.revoke(self.request.db, self.request.claims)
        return ok()

    @operation(
        "change",
        params=ChangePassword,
        refusal=Result.REFUSED,
        codes=[Result.WRONG_PASSWORD],
        transaction=False,
        extension=True,
        message=LoginToken,
    )
    def change_password(self, params: ChangePassword) -> Reply:
        """Change the password; all earlier login tokens are revoked · 修改密码"""
        services, account = self.request.services, self.request.account
        services.authentication.confirm(
            account, password=params.oldPassword, address=self.request.address
        )
        updated = services.accounts.change_password(account, params.password)
        return ok(services.login_tokens.issue(updated, lifetime_s=params.expire_in))

    @operation(
        "forgot",
        params=ForgotPassword,
        refusal=Result.CODE_NOT_SENT,
        transaction=False,
        limits=["codes_address"],
        extension=True,
        message=str,
    )
    def forgot_password(self, params: ForgotPassword) -> Reply:
        """Send a password reset code · 忘记密码"""
        return ok(self.request.services.verification_codes.send_to_reset(params.userId))

    @operation(
        "reset",
        params=ResetPassword,
        refusal=Result.REFUSED,
        codes=[Result.WRONG_CODE, Result.TOO_MANY_TRIES],
        transaction=False,
        limits=["reset"],
        extension=True,
    )
    def reset_password(self, params: ResetPassword) -> Reply:
        """Reset the password; all login tokens are revoked · 重置密码"""
        self.request.services.accounts.reset_password(
            phone=params.userId,
            ticket=params.code_v,
            code=params.code,
            new=params.password,
        )
        return ok()
