"""Tests of the HTML pages and static files: content, headers and settings."""

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from email.utils import formatdate
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from webob import Request
from webtest import TestApp

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.result_codes import ResultCode
from livebackend.events.declarations import EVENTS
from livebackend.views.pages import serve_static
from tests.support.api import App
from tests.support.application import DEVELOPMENT_INI

STATIC_FILES_FOLDER = DEVELOPMENT_INI.parent / "livebackend/static"
# A browser does not run a script element of this type.
DATA_ELEMENT = r'<script type="application/json" id="[a-z-]+">([^<]*)</script>'
NOT_FOUND = {"result": "0003", "message": None}


@pytest.fixture
def browser(app: App) -> Any:
    return TestApp(app)


def asset_paths(html: str) -> list[str]:
    return re.findall(r'(?:src|href)="(static/[^"]+)"', html)


@pytest.fixture
def static_url_path(browser: Any) -> str:
    """The URL path of the static files; it contains a version."""
    return "/" + "/".join(asset_paths(browser.get("/docs").text)[0].split("/")[:2])


@pytest.fixture
def static_files() -> set[str]:
    return {
        path.relative_to(STATIC_FILES_FOLDER).as_posix()
        for path in STATIC_FILES_FOLDER.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "path", ["/docs", "/demo", "/openapi.json", "/openapi-operations.json", "/asyncapi.json"]
)
def test_page_is_revalidated_by_its_etag(path: str, browser: Any) -> None:
    page = browser.get(path)
    assert page.headers["Cache-Control"] == "no-cache"
    conditional_response = browser.get(
        path, headers={"If-None-Match": page.headers["ETag"]}, status=304
    )
    assert conditional_response.body == b""
    assert browser.head(path).headers["ETag"] == page.headers["ETag"]


@pytest.mark.parametrize("path", ["/docs", "/demo"])
def test_assets_of_a_page_are_immutable(path: str, browser: Any) -> None:
    asset_paths_of_page = asset_paths(browser.get(path).text)
    assert len(asset_paths_of_page) > 3
    for asset in asset_paths_of_page:
        response = browser.get(f"/{asset}")
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_each_static_file_is_served_with_its_media_type(
    static_url_path: str, static_files: set[str], browser: Any
) -> None:
    media_types = {
        ".css": "text/css",
        ".ico": "image/vnd.microsoft.icon",
        ".js": "text/javascript",
        ".png": "image/png",
        ".svg": "image/svg+xml",
        ".txt": "text/plain",
        ".webmanifest": "application/manifest+json",
        ".woff2": "font/woff2",
    }
    for name in static_files:
        response = browser.get(f"{static_url_path}/{name}")
        assert response.body == (STATIC_FILES_FOLDER / name).read_bytes()
        assert response.content_type == media_types[Path(name).suffix]
        assert response.headers["Content-Length"] == str(len(response.body))


def test_static_file_supports_head_and_conditional_requests(
    static_url_path: str, browser: Any
) -> None:
    path = f"{static_url_path}/vendor/hls.js"
    head_response = browser.head(path)
    assert head_response.body == b""
    assert head_response.headers["Content-Length"] == str(
        (STATIC_FILES_FOLDER / "vendor/hls.js").stat().st_size
    )
    conditional_headers = {"If-Modified-Since": head_response.headers["Last-Modified"]}
    response = browser.get(path, headers=conditional_headers, status=304)
    assert response.body == b""
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    browser.get(path, headers={"If-Modified-Since": formatdate(0, usegmt=True)}, status=200)


def test_static_file_is_not_sent_in_blocks(static_url_path: str, browser: Any) -> None:
    """If files were sent in blocks, a slow client would occupy a thread of the server."""
    response = Request.blank(f"{static_url_path}/vendor/hls.js").get_response(browser.app)
    assert isinstance(response.app_iter, list)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/docs",
        "/docs/",
        "/docs/docs.js/",
        "/docs/docs.html",
        "/demo/demo.html",
        "/docs.html",
        "/templates/docs.html",
        "/vendor/SHA256SUMS",
        "/vendor/vendor.sha256",
        "/docs//docs.js",
        "/docs/./docs.js",
        "/demo/../docs/docs.js",
        "/../api/templates/docs.html",
        "/..%2fapi%2ftemplates%2fdocs.html",
        "/..%5c..%5cproduction.ini",
        "//etc/passwd",
        "/docs/docs.js%00",
        "0/docs/docs.js",
    ],
)
def test_static_path_that_names_no_public_file_is_404(
    path: str, static_url_path: str, browser: Any
) -> None:
    response = browser.get(static_url_path + path, status=404)
    assert response.json == NOT_FOUND
    assert response.headers["X-Error"] == "path; reason=unknown_path"


def test_unknown_static_paths_are_not_cached(static_url_path: str, browser: Any) -> None:
    """By default, Pyramid caches unknown names, so clients could fill the memory."""
    for number in range(10):
        browser.get(f"{static_url_path}/unknown{number}.js", status=404)
    assert not [name for name in serve_static.filemap if "unknown" in name]


@pytest.mark.parametrize("path", ["/docs", "/demo"])
def test_content_security_policy_of_a_page_forbids_inline_code_and_other_hosts(
    path: str, browser: Any
) -> None:
    page = browser.get(path)
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in page.headers["Content-Security-Policy"].split(";")
    )
    assert policy["manifest-src"] == "'self'"
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["font-src"] == "'self'"
    assert policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    html = re.sub(DATA_ELEMENT, "", page.text)
    assert not re.search(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=", html)
    assert "{" not in re.sub(r"<pre.*?</pre>", "", html, flags=re.DOTALL)


def test_docs_page_can_connect_only_to_the_server_of_the_page(browser: Any) -> None:
    assert "connect-src 'self';" in browser.get("/docs").headers["Content-Security-Policy"]


def test_demo_page_can_connect_to_the_configured_media_server(new_app: Callable[..., App]) -> None:
    browser = TestApp(new_app(events__gateway="", streams__hls_host="play.example.org:8080"))
    policy = browser.get("/demo").headers["Content-Security-Policy"].split("; ")
    media_sources = "http://play.example.org:8080 https://play.example.org:8080"
    assert f"connect-src 'self' {media_sources}" in policy
    assert f"media-src 'self' blob: {media_sources}" in policy


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("", "http://127.0.0.1:6543"),
        ("https://Events.example.org/live/events", "https://events.example.org"),
    ],
)
def test_demo_page_can_connect_to_the_server_of_the_event_streams(
    url: str, origin: str, new_app: Callable[..., App]
) -> None:
    browser = TestApp(new_app(events__public_url=url))
    policy = browser.get("/demo").headers["Content-Security-Policy"].split("; ")
    assert f"connect-src 'self' http: https: {origin}" in policy


def test_demo_page_has_the_operation_of_every_event(browser: Any) -> None:
    [_, data] = re.findall(DATA_ELEMENT, browser.get("/demo").text)
    operations = json.loads(data)
    assert operations["friend_request"] == "/list messagelist=1"
    assert operations.keys() == EVENTS.keys()


def test_page_is_compressed_if_the_client_accepts_gzip(browser: Any) -> None:
    uncompressed = browser.get("/docs")
    # WebTest decompresses responses, so the test sends this request with WebOb.
    request = Request.blank("/docs", headers={"Accept-Encoding": "br, gzip"})
    compressed = request.get_response(browser.app)
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in uncompressed.headers
    assert compressed.headers["ETag"] != uncompressed.headers["ETag"]
    assert compressed.headers["Vary"] == uncompressed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(compressed.body) == uncompressed.body


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_page_rejects_post_requests(path: str, browser: Any) -> None:
    response = browser.post(path, status=405)
    assert response.headers["Allow"] == "GET, HEAD"
    assert response.json == {"result": "0003", "message": None}


def test_static_file_rejects_post_requests(static_url_path: str, browser: Any) -> None:
    response = browser.post(f"{static_url_path}/docs/docs.js", status=405)
    assert response.headers["Allow"] == "GET, HEAD"
    assert response.json == NOT_FOUND
    assert response.headers["X-Error"] == "method; reason=method_not_allowed"


def test_production_settings_enable_the_docs_page_and_disable_the_demo_page(
    hardened_app: App,
) -> None:
    browser = TestApp(hardened_app)
    assert 'data-demo=""' in browser.get("/docs").text
    assert browser.get("/demo", status=404).json["result"] == "0003"


def test_root_redirects_to_the_docs_page(browser: Any) -> None:
    response = browser.get("/", status=302)
    assert response.headers["Location"] == "http://localhost/docs"
    assert browser.post("/", status=405).headers["Allow"] == "GET, HEAD"


def test_redirect_behind_a_proxy_with_https_keeps_https(new_app: Callable[..., App]) -> None:
    browser = TestApp(new_app(http__trusted_proxies="127.0.0.1"))
    response = browser.get(
        "/",
        headers={"X-Forwarded-Proto": "https", "Host": "live.example"},
        extra_environ={"REMOTE_ADDR": "127.0.0.1"},
        status=302,
    )
    assert response.headers["Location"] == "https://live.example/docs"


def test_settings_can_disable_the_docs_and_demo_pages(
    new_app: Callable[..., App], static_url_path: str
) -> None:
    app = new_app(docs__enabled="false", demo__enabled="false")
    assert app.registry.pages == {}
    static_path = f"{static_url_path}/docs/docs.js"
    documents = ("/openapi.json", "/openapi-operations.json", "/asyncapi.json")
    for path in ("/", "/docs", *documents, "/demo", "/favicon.ico", static_path):
        assert TestApp(app).get(path, status=404).json["result"] == "0003"


def test_demo_page_does_not_link_to_a_disabled_docs_page(new_app: Callable[..., App]) -> None:
    browser = TestApp(new_app(docs__enabled="false"))
    assert 'data-docs=""' in browser.get("/demo").text
    assert browser.get("/openapi.json", status=404)


def test_demo_page_has_every_error_message_without_the_docs_page(
    new_app: Callable[..., App],
) -> None:
    html = TestApp(new_app(docs__enabled="false")).get("/demo").text
    messages = json.loads(re.findall(DATA_ELEMENT, html)[0])
    assert messages["reasons"].keys() == {reason.value for reason in ErrorReason}
    assert messages["results"]["0013"] == {
        "description": ResultCode.COINS_NOT_UPDATED.english,
        "x-zh": ResultCode.COINS_NOT_UPDATED.chinese,
    }


@pytest.mark.parametrize("path", ["/docs", "/demo"])
def test_icons_of_a_page_have_the_declared_sizes(path: str, browser: Any) -> None:
    assets = asset_paths(browser.get(path).text)
    [manifest_path] = [asset for asset in assets if asset.endswith(".webmanifest")]
    manifest = json.loads(browser.get(f"/{manifest_path}").body)
    sizes = {}
    for icon in manifest["icons"]:
        response = browser.get(f"/{Path(manifest_path).with_name(icon['src'])}")
        assert response.content_type == icon["type"]
        if icon["type"] == "image/png":
            width, height = Image.open(BytesIO(response.body)).size
            assert icon["sizes"] == f"{width}x{height}"
            sizes[icon["src"]] = len(response.body)
    assert max(sizes.values()) < 20_000


def test_favicon_is_served_at_the_path_that_browsers_request(browser: Any) -> None:
    response = browser.get("/favicon.ico")
    assert response.content_type == "image/vnd.microsoft.icon"
    icon = Image.open(BytesIO(response.body))
    assert icon.info["sizes"] == {(16, 16), (32, 32), (48, 48)}


def test_openapi_document_is_served_as_it_was_generated(app: App, browser: Any) -> None:
    response = browser.get("/openapi.json")
    assert response.content_type == "application/json"
    assert response.json == json.loads(app.registry.pages["openapi.json"].body)


def test_vendored_files_have_the_published_digests_and_licences() -> None:
    """The script .ci/vendor.sh downloads the third-party files and their licences."""
    vendor_folder = STATIC_FILES_FOLDER / "vendor"
    lines = (DEVELOPMENT_INI.parent / ".ci/vendor.sha256").read_text().splitlines()
    digests = {name: digest for digest, name in (line.split("  ") for line in lines)}
    file_names = {entry.name for entry in vendor_folder.iterdir()}
    assert file_names == digests.keys()
    for name, digest in digests.items():
        assert hashlib.sha256((vendor_folder / name).read_bytes()).hexdigest() == digest, name
        if not name.endswith(".txt"):
            assert f"{name.partition('.')[0]}.LICENSE.txt" in file_names
