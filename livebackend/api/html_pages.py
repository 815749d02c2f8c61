"""The pages /docs and /demo, the documents of the API, /favicon.ico, and static files."""

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from livebackend.api.asyncapi import build_event_document
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.openapi.documents import build_documents, described
from livebackend.api.operation_declaration import Operation
from livebackend.api.result_codes import ResultCode
from livebackend.events.declarations import EVENTS

_STATIC = Path(__file__).parent.with_name("static")
_TEMPLATES = Path(__file__).with_name("templates")
_ICON = "image/vnd.microsoft.icon"

# The Content-Security-Policy of the pages. It forbids inline scripts and content from other
# origins: a page must not run scripts that users put into texts of API responses.
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The demo shows avatars from any web server, plays streams of the media server, and receives live
# events. hls.js gives the player its data as a blob.
_DEMO_CONTENT_POLICY = _CONTENT_POLICY.replace(
    "connect-src 'self'", "connect-src 'self' {media}{events}"
).replace("img-src 'self'", "media-src 'self' blob: {media}; img-src 'self' http: https:")


@dataclass(frozen=True)
class Page:
    """A page with its response headers."""

    body: bytes
    # The same content as `body`, compressed with gzip.
    gzip_body: bytes
    content_type: str
    etag: str
    headers: Mapping[str, str]


Pages = Mapping[str, Page]


@dataclass(frozen=True)
class StaticFiles:
    """The files in `static/`, served from a folder named by a digest of all the files.

    JavaScript modules import each other by relative paths. With the digest in the folder, they
    import modules of the same version.
    """

    folder: str
    paths: frozenset[str]

    @classmethod
    def read(cls) -> "StaticFiles":
        """Read all files and compute the digest."""
        files = sorted(path for path in _STATIC.rglob("*") if path.is_file())
        names = [path.relative_to(_STATIC).as_posix() for path in files]
        digest = _digest(*(name.encode() for name in names), *(path.read_bytes() for path in files))
        folder = f"static/{digest}"
        return cls(folder, frozenset(f"{folder}/{name}" for name in names))


def build_pages(
    operations: Sequence[Operation],
    *,
    docs: bool,
    demo: bool,
    static_folder: str,
    phone_pattern: str,
    public_url: str,
    event_stream_url: str,
    hls_host: str,
    events_origin: str,
) -> Pages:
    """Return the enabled pages by path. `events_origin` is empty without live events."""
    values = {
        "static": static_folder,
        # A disabled page has an empty path, so that the other pages hide their links to the page.
        "docs": "docs" if docs else "",
        "demo": "demo" if demo else "",
        # Operations that are not in the API document; the demo marks them.
        "extensions": " ".join(
            operation.name for operation in operations if not operation.documented
        ),
    }
    pages = {"favicon.ico": _page((_STATIC / "shared/favicon.ico").read_bytes(), _ICON)}
    if docs:
        documents = build_documents(operations, phone_pattern=phone_pattern, url=public_url)
        pages["openapi.json"] = _page(orjson.dumps(documents.by_path), "application/json")
        pages["openapi-operations.json"] = _page(
            orjson.dumps(documents.by_operation), "application/json"
        )
        event_document = build_event_document(url=event_stream_url)
        pages["asyncapi.json"] = _page(orjson.dumps(event_document), "application/json")
        guides = (_TEMPLATES / "docs-guides.html").read_text("utf-8")
        pages["docs"] = _html_page("docs.html", {"guides": guides, **values}, _CONTENT_POLICY)
    if demo:
        demo_values = {
            **values,
            "error_messages": _error_messages(),
            # The operation that a client calls if it has missed events of this type.
            "live_events": _json_data({name: event.operation for name, event in EVENTS.items()}),
        }
        policy = _demo_policy(hls_host=hls_host, events_origin=events_origin)
        pages["demo"] = _html_page("demo.html", demo_values, policy)
    return pages


def _error_messages() -> str:
    """Return the texts of result codes and error reasons.

    The fields are those of /openapi.json, which the settings can disable.
    """
    return _json_data({"results": described(ResultCode), "reasons": described(ErrorReason)})


def _json_data(value: object) -> str:
    """Return a value as JSON for a script element, which the JSON must not end."""
    return orjson.dumps(value).decode().replace("<", "\\u003c")


def _demo_policy(*, hls_host: str, events_origin: str) -> str:
    """Return the demo's Content-Security-Policy.

    It allows media from the HLS host, and live events from the server of the event streams. Without
    a configured HLS host, media from any server is allowed, because the stream provider chooses the
    server.
    """
    media_sources = f"http://{hls_host} https://{hls_host}" if hls_host else "http: https:"
    events_source = f" {events_origin}" if events_origin else ""
    return _DEMO_CONTENT_POLICY.format(media=media_sources, events=events_source)


def _html_page(template: str, values: Mapping[str, str], policy: str) -> Page:
    text = (_TEMPLATES / template).read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return _page(text.encode(), "text/html", {"Content-Security-Policy": policy})


def _page(body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Page:
    return Page(
        body=body,
        gzip_body=gzip.compress(body, mtime=0),
        content_type=content_type,
        etag=_digest(body),
        # no-cache: a new version of a page has the same path, so browsers must revalidate the page.
        headers={"Vary": "Accept-Encoding", "Cache-Control": "no-cache", **(headers or {})},
    )


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
