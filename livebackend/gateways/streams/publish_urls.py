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
    """The expiry time, in seconds since 1970, and the nonce of a signed publish URL.

    A later URL has a higher nonce.
    """

    expires_at: int
    nonce: int


@dataclass(frozen=True)
class PublishUrlSigner:
    """Creates publish URLs; a URL with an expiry time expires after `lifetime_s`."""

    clock: Callable[[], float]
    lifetime_s: int
    auth: QiniuAuth | None = None

    def url(self, document: Mapping[str, Any]) -> str:
        """Return the publish URL of the stream with this JSON."""
        now = self.clock()
        # The nonce is in milliseconds, so that it also increases between two URLs that are created
        # in the same second.
        validity = UrlValidity(expires_at=int(now) + self.lifetime_s, nonce=int(now * 1000))
        path_and_query = publish_path(
            document["publishSecurity"],
            f"/{document['hub']}/{document['title']}",
            key=document["publishKey"],
            validity=validity,
            auth=self.auth,
        )
        return f"rtmp://{document['hosts']['publish']['rtmp']}{path_and_query}"


def publish_path(
    security_kind: str,
    path: str,
    *,
    key: str,
    validity: UrlValidity,
    auth: QiniuAuth | None = None,
) -> str:
    """Return a publish URL's path and query.

    `path` can have a query too. Raises ValueError for an unknown kind, and for
    "expiry_sk" without `auth`.
    """
    target_parts = urlsplit(path)
    parameters = dict(parse_qsl(target_parts.query, keep_blank_values=True))

    def path_with_query(**added_parameters: object) -> str:
        query = urlencode(sorted({**parameters, **added_parameters}.items()))
        return f"{target_parts.path}?{query}" if query else target_parts.path

    if security_kind == "none":
        return path_with_query()
    if security_kind == "static":
        return path_with_query(key=key)
    if security_kind == "expiry":
        return _sign_path(path_with_query(expire=validity.expires_at), key)
    if security_kind == "dynamic":
        return _sign_path(path_with_query(nonce=validity.nonce), key)
    if security_kind == "expiry_sk" and auth:
        unsigned_path = path_with_query(e=validity.expires_at)
        return f"{unsigned_path}&token={auth.token(unsigned_path.encode())}"
    raise ValueError(
        f"cannot sign a publish URL: publishSecurity {security_kind!r} is unknown,"
        " or needs Qiniu's access key and secret key"
    )


def _sign_path(unsigned_path: str, key: str) -> str:
    return f"{unsigned_path}&token={signature(key.encode(), unsigned_path.encode())}"
