"""/log: logging in and out, and what becomes of a password."""

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
    described(
        "how long the token lives, in seconds; else 7 days", "token有效期（秒），默认7天", 3600
    ),
]


class LogIn(Params):
    userId: Annotated[Phone, ErrorCode(Result.NO_SUCH_USER)]
    password: TypedPassword
    expire_in: ExpireIn = None


class ChangePassword(LoggedIn):
    oldPassword: Annotated[
        TypedPassword,
        ErrorCode(Result.WRONG_PASSWORD),
        described("the password until now", "原密码", "harbour-42"),
    ]
    password: Password
    expire_in: ExpireIn = None


class Forgot(Params):
    userId: Phone


class ResetPassword(Params):
    userId: Phone
    # As in verifying: a malformed try is a try.
    code_v: Annotated[
        Unchecked, described("the message of forgot password", "忘记密码返回的 message")
    ] = ""
    code: Annotated[Unchecked, described("the six digits that were sent", "收到的6位验证码")] = ""
    password: Password


class Log(View):
    route = "log"
    chapter = "Logging in · 登录"

    @operation(
        params=LogIn,
        refusal=Result.WRONG_PASSWORD,
        codes=[Result.NO_SUCH_USER],
        transaction=False,
        repeatable=True,
        message=LoginToken,
    )
    def log_in(self, given: LogIn) -> Reply:
        """Log in · 登录"""
        services = self.request.services
        account = services.authentication.log_in(
            phone=given.userId, password=given.password, address=self.request.address
        )
        return ok(services.login_tokens.issue(account, lifetime_s=given.expire_in))

    @operation("logout", params=LoggedIn, refusal=Result.REFUSED, extension=True)
    def log_out(self, given: LoggedIn) -> Reply:
        """End this login token · 退出登录"""
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
    def change_password(self, given: ChangePassword) -> Reply:
        """Change one's password; every login token ends but the one in the reply · 修改密码"""
        services, account = self.request.services, self.request.account
        services.authentication.confirm(
            account, password=given.oldPassword, address=self.request.address
        )
        changed = services.accounts.change_password(account, given.password)
        return ok(services.login_tokens.issue(changed, lifetime_s=given.expire_in))

    @operation(
        "forgot",
        params=Forgot,
        refusal=Result.CODE_NOT_SENT,
        transaction=False,
        limits=["codes_address"],
        extension=True,
        message=str,
    )
    def forgot_password(self, given: Forgot) -> Reply:
        """Send a code to reset a password with · 忘记密码"""
        return ok(self.request.services.verification_codes.send_to_reset(given.userId))

    @operation(
        "reset",
        params=ResetPassword,
        refusal=Result.REFUSED,
        codes=[Result.WRONG_CODE, Result.TOO_MANY_TRIES],
        transaction=False,
        limits=["reset"],
        extension=True,
    )
    def reset_password(self, given: ResetPassword) -> Reply:
        """Set a new password with the code; every login token ends · 重置密码"""
        self.request.services.accounts.reset_password(
            phone=given.userId,
            ticket=given.code_v,
            code=given.code,
            new=given.password,
        )
        return ok()
