"""The API's own pages, created at start, and the static files that they load."""

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from livebackend.api.declaration import Operation
from livebackend.api.openapi import document

_STATIC = Path(__file__).parent.with_name("static")
_TEMPLATES = Path(__file__).with_name("templates")

# No content of other hosts, and no inline script or style: markup that a response smuggles into a
# page stays text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The demo shows avatars of any host, and plays streams of the media server; hls.js gives the player
# its data as a blob.
_DEMO_POLICY = _POLICY.replace("connect-src 'self'", "connect-src 'self' {media}").replace(
    "img-src 'self'", "media-src 'self' blob: {media}; img-src 'self' http: https:"
)


@dataclass(frozen=True)
class Page:
    """A page as it is served."""

    body: bytes
    # The body compressed with gzip.
    zipped: bytes
    content_type: str
    etag: str
    headers: Mapping[str, str]


Pages = Mapping[str, Page]


@dataclass(frozen=True)
class StaticFiles:
    """The files in `static/`. The path of each contains a digest of all of them.

    The digest is in the path, not in a query or in each name: modules import each other by relative
    paths, and must import modules of the same version.
    """

    folder: str
    paths: frozenset[str]

    @classmethod
    def read(cls) -> "StaticFiles":
        """Read every file for the digest."""
        found = sorted(path for path in _STATIC.rglob("*") if path.is_file())
        names = [path.relative_to(_STATIC).as_posix() for path in found]
        digest = _digest(*(name.encode() for name in names), *(path.read_bytes() for path in found))
        folder = f"static/{digest}"
        return cls(folder, frozenset(f"{folder}/{name}" for name in names))


def make_pages(
    operations: Sequence[Operation],
    *,
    docs: bool,
    demo: bool,
    static_folder: str,
    phones_pattern: str,
    public_url: str,
    hls_host: str,
) -> Pages:
    """Create the pages that are enabled, by their paths."""
    values = {
        "static": static_folder,
        # The pages link to each other only if both are served.
        "docs": "docs" if docs else "",
        "demo": "demo" if demo else "",
        # The operations that the demo can call and the document does not describe.
        "extensions": " ".join(each.name for each in operations if each.extension),
    }
    pages = {}
    if docs:
        described = document(operations, phones=phones_pattern, url=public_url)
        pages["openapi.json"] = _page(orjson.dumps(described), "application/json")
        pages["docs"] = _html("docs.html", values, _POLICY)
    if demo:
        pages["demo"] = _html("demo.html", values, _demo_policy(hls_host))
    return pages


def _demo_policy(hls_host: str) -> str:
    """Without a host, the provider names the media server, which can be any."""
    media = f"http://{hls_host} https://{hls_host}" if hls_host else "http: https:"
    return _DEMO_POLICY.replace("{media}", media)


def _html(template: str, values: Mapping[str, str], policy: str) -> Page:
    text = (_TEMPLATES / template).read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return _page(text.encode(), "text/html", {"Content-Security-Policy": policy})


def _page(body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Page:
    return Page(
        body=body,
        zipped=gzip.compress(body, mtime=0),
        content_type=content_type,
        etag=_digest(body),
        # The path of a page never changes, so a browser must revalidate it each time.
        headers={"Vary": "Accept-Encoding", "Cache-Control": "no-cache", **(headers or {})},
    )


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:16]
