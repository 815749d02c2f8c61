"""The API's own pages: files out of `static/`, and the document, all read or made at start."""

import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import orjson

from livebackend.api.declaration import Operation
from livebackend.api.openapi import document
from livebackend.config.settings import Settings

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}
# Compressed already.
_PACKED = (".woff2",)
# A page's address never changes, so it is asked for anew each time; what it is made of stands
# under a name that changes with any of it.
_ASK_AGAIN = "no-cache"
_FOREVER = "public, max-age=31536000, immutable"

# Nothing from elsewhere, and no script or style within the page: what somebody smuggles into a
# reply that is shown there stays text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The demo shows avatars from wherever the installation keeps them, and plays streams of its media
# server; hls.js hands the player what it has fetched as a blob.
_DEMO_POLICY = _POLICY.replace("connect-src 'self'", "connect-src 'self' {media}").replace(
    "img-src 'self'", "media-src 'self' blob: {media}; img-src 'self' http: https:"
)


@dataclass(frozen=True)
class Page:
    """A file as it is served."""

    body: bytes
    # The same, for whoever takes it so; None where that would save nothing.
    zipped: bytes | None
    content_type: str
    etag: str
    headers: Mapping[str, str]


Pages = Mapping[str, Page]


def make_pages(operations: Sequence[Operation], settings: Settings) -> Pages:
    """Every page by its path, as far as the settings allow them."""
    if not (settings.docs_enabled or settings.demo_enabled):
        return {}
    static = dict(_walk(files("livebackend") / "static"))
    folder = f"static/{_digest(*static, *static.values())}"
    pages = {
        f"{folder}/{path}": _page(path, body, {"Cache-Control": _FOREVER})
        for path, body in static.items()
        if not path.endswith(".html")
    }

    # A link is shown to what there is.
    filled = {
        "static": folder,
        "docs": "docs" if settings.docs_enabled else "",
        "demo": "demo" if settings.demo_enabled else "",
        # What the demo may call beyond the document.
        "extensions": " ".join(each.name for each in operations if each.extension),
    }

    def html(path: str, policy: str) -> Page:
        body = static[path]
        for name, value in filled.items():
            body = body.replace(f"{{{name}}}".encode(), value.encode())
        headers = {"Cache-Control": _ASK_AGAIN, "Content-Security-Policy": policy}
        return _page(path, body, headers)

    if settings.docs_enabled:
        described = document(operations, phones=settings.phones_pattern, url=settings.http_url)
        pages["openapi.json"] = _page(
            "openapi.json", orjson.dumps(described), {"Cache-Control": _ASK_AGAIN}
        )
        pages["docs"] = html("docs/docs.html", _POLICY)
    if settings.demo_enabled:
        pages["demo"] = html("demo/demo.html", _demo_policy(settings.streams_hls_host))
    return pages


def _demo_policy(hls_host: str) -> str:
    """Where no setting names the media server, its provider does, and it may be any."""
    media = f"http://{hls_host} https://{hls_host}" if hls_host else "http: https:"
    return _DEMO_POLICY.replace("{media}", media)


def _walk(folder: Traversable, above: str = "") -> Iterable[tuple[str, bytes]]:
    """Every file that is served, by its path within the folder."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry, f"{above}{entry.name}/")
        elif _ending(entry.name) in _TYPES:
            yield f"{above}{entry.name}", entry.read_bytes()


def _page(path: str, body: bytes, headers: Mapping[str, str]) -> Page:
    zipped = None if _ending(path) in _PACKED else gzip.compress(body, mtime=0)
    return Page(
        body=body,
        zipped=zipped if zipped and len(zipped) < len(body) else None,
        content_type=_TYPES[_ending(path)],
        etag=_digest(body),
        headers={"Vary": "Accept-Encoding", **headers},
    )


def _ending(path: str) -> str:
    return "." + path.rpartition(".")[2]


def _digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part)
    return whole.hexdigest()[:16]
