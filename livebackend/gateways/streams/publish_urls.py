"""Publish URLs for each kind of Pili's `publishSecurity`.

Source: Pili, publish URLs. The signature covers the path and the sorted query; `token` is appended
last, without URL encoding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from livebackend.gateways.qiniu import QiniuAuth, signature

# A "static" URL contains the publish key. "expiry" and "dynamic" URLs are signed with the publish
# key, "expiry_sk" URLs with the account's secret key.
PUBLISH_SECURITY_KINDS = ("none", "static", "expiry", "expiry_sk", "dynamic")


@dataclass(frozen=True)
class UrlValidity:
    """Expiry time, in seconds since 1970, and increasing nonce of a signed URL."""

    expires_at: int
    nonce: int


@dataclass(frozen=True)
class PublishUrlSigner:
    """Creates publish URLs that are valid for `lifetime_s` from `clock`, in seconds."""

    clock: Callable[[], float]
    lifetime_s: int
    auth: QiniuAuth | None = None

    def url(self, document: Mapping[str, Any]) -> str:
        """Return the publish URL of the stream with this JSON."""
        now = self.clock()
        # The nonce is in milliseconds: it increases between two URLs of the same second.
        validity = UrlValidity(expires_at=int(now) + self.lifetime_s, nonce=int(now * 1000))
        target = publish_path(
            document["publishSecurity"],
            f"/{document['hub']}/{document['title']}",
            key=document["publishKey"],
            validity=validity,
            auth=self.auth,
        )
        return f"rtmp://{document['hosts']['publish']['rtmp']}{target}"


def publish_path(
    kind: str, target: str, *, key: str, validity: UrlValidity, auth: QiniuAuth | None = None
) -> str:
    """Return the path and query of a publish URL; `target` can have a query.

    Raises ValueError for an unknown kind, and for "expiry_sk" without `auth`.
    """
    address = urlsplit(target)
    parameters = dict(parse_qsl(address.query, keep_blank_values=True))

    def with_query(**added: object) -> str:
        query = urlencode(sorted({**parameters, **added}.items()))
        return f"{address.path}?{query}" if query else address.path

    if kind == "none":
        return with_query()
    if kind == "static":
        return with_query(key=key)
    if kind == "expiry":
        return _signed(with_query(expire=validity.expires_at), key)
    if kind == "dynamic":
        return _signed(with_query(nonce=validity.nonce), key)
    if kind == "expiry_sk" and auth:
        unsigned = with_query(e=validity.expires_at)
        return f"{unsigned}&token={auth.token(unsigned.encode())}"
    raise ValueError(f"publishSecurity {kind!r} is unknown or needs the account's keys")


def _signed(unsigned: str, key: str) -> str:
    return f"{unsigned}&token={signature(key.encode(), unsigned.encode())}"
