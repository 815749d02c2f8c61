"""/log: logging in."""

import re
from typing import Annotated, Any

from livebackend.operation import View, operation
from livebackend.params import NoControl, Params, Phone, Refuses, length
from livebackend.results import Result, ok

_DAY_S = 24 * 3600
_DEFAULT_S = 7 * _DAY_S
_LONGEST_S = 30 * _DAY_S


class LogIn(Params):
    userId: Annotated[Phone, Refuses(Result.NO_SUCH_USER)]
    password: Annotated[str, length(1, 128), NoControl]
    # Anything that is no number of seconds counts as absent.
    expire_in: Any = None


class Log(View):
    route = "log"

    @operation(
        params=LogIn,
        refusal=Result.WRONG_PASSWORD,
        codes=[Result.NO_SUCH_USER],
        transaction=False,
    )
    def log_in(self, given):
        """Log in · 登录"""
        house = self.request.house
        account = house.accounts.log_in(phone=given.userId, password=given.password)
        return ok(house.login_tokens.issue(account, lifetime_s=lifetime_s(given.expire_in)))


def lifetime_s(expire_in: object) -> int:
    """How long a login token lives: the seconds asked for, 30 days at most, 7 by default.

    Never negative: 0 stands for a token that has expired already.
    """
    match = re.fullmatch("([+-]?)0*([0-9]+)", expire_in) if isinstance(expire_in, str) else None
    if not match:
        return _DEFAULT_S
    sign, digits = match.groups()
    # Python refuses to convert thousands of digits; ten are more than 30 days already.
    return 0 if sign == "-" else min(int(digits[:10]), _LONGEST_S)
