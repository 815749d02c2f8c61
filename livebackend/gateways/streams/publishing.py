"""Where a broadcaster publishes: a URL for each of Pili's kinds of `publishSecurity`.

Source: Pili, publishing URLs. What is signed is the path with all parameters, sorted; `token`
stands last, as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from livebackend.gateways.qiniu import QiniuAuth, signature

# static: the key itself; expiry, dynamic: signed with the stream's key; expiry_sk: with the
# account's.
KINDS = ("none", "static", "expiry", "expiry_sk", "dynamic")


@dataclass(frozen=True)
class Moment:
    """What makes a signed URL good for a while: when it ends, and a number that only grows."""

    expires_at: int
    nonce: int


@dataclass(frozen=True)
class Publishing:
    """Makes publish URLs that are good for `lifetime_s`, counted from `clock`, in seconds."""

    clock: Callable[[], float]
    lifetime_s: int
    auth: QiniuAuth | None = None

    def url(self, document: Mapping[str, Any]) -> str:
        """Where a stream with this JSON is published from now on."""
        now = self.clock()
        # Milliseconds, so that the next one is greater although the same second asks for both.
        moment = Moment(expires_at=int(now) + self.lifetime_s, nonce=int(now * 1000))
        target = published_target(
            document["publishSecurity"],
            f"/{document['hub']}/{document['title']}",
            key=document["publishKey"],
            moment=moment,
            auth=self.auth,
        )
        return f"rtmp://{document['hosts']['publish']['rtmp']}{target}"


def published_target(
    kind: str, target: str, *, key: str, moment: Moment, auth: QiniuAuth | None = None
) -> str:
    """The path of a publish URL, with its query; `target` may have parameters of its own.

    Raises ValueError for a kind that is none, or that needs the account's keys and has none.
    """
    address = urlsplit(target)
    own = dict(parse_qsl(address.query, keep_blank_values=True))

    def with_query(**more: object) -> str:
        query = urlencode(sorted({**own, **more}.items()))
        return f"{address.path}?{query}" if query else address.path

    if kind == "none":
        return with_query()
    if kind == "static":
        return with_query(key=key)
    if kind == "expiry":
        return _signed(with_query(expire=moment.expires_at), key)
    if kind == "dynamic":
        return _signed(with_query(nonce=moment.nonce), key)
    if kind == "expiry_sk" and auth:
        unsigned = with_query(e=moment.expires_at)
        return f"{unsigned}&token={auth.token(unsigned.encode())}"
    raise ValueError(f"publishSecurity {kind!r}")


def _signed(unsigned: str, key: str) -> str:
    return f"{unsigned}&token={signature(key.encode(), unsigned.encode())}"
