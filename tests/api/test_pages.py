"""The API's own pages: what is served, with which headers, and what the settings allow."""

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from webob import Request
from webtest import TestApp

from tests.support.api import App

STATIC = files("livebackend") / "static"


@pytest.fixture
def browser(app: App) -> Any:
    return TestApp(app)


def assets(html: str) -> list[str]:
    return re.findall(r'(?:src|href)="(static/[^"]+)"', html)


@pytest.mark.parametrize("path", ["/docs", "/demo", "/openapi.json"])
def test_a_page_is_asked_for_again_and_seldom_sent_again(path: str, browser: Any) -> None:
    page = browser.get(path)
    assert page.headers["Cache-Control"] == "no-cache"
    again = browser.get(path, headers={"If-None-Match": page.headers["ETag"]}, status=304)
    assert again.body == b""
    assert browser.head(path).headers["ETag"] == page.headers["ETag"]


@pytest.mark.parametrize("path", ["/docs", "/demo"])
def test_what_a_page_is_made_of_is_kept_for_ever(path: str, browser: Any) -> None:
    made_of = assets(browser.get(path).text)
    assert len(made_of) > 3
    for asset in made_of:
        reply = browser.get(f"/{asset}")
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
    other = made_of[0].replace("static/", "static/0")
    assert browser.get(f"/{other}", status=404).json["result"] == "0003"


@pytest.mark.parametrize("path", ["/docs", "/demo"])
def test_a_page_runs_nothing_from_elsewhere_or_within(path: str, browser: Any) -> None:
    page = browser.get(path)
    policy = dict(
        each.strip().split(" ", 1) for each in page.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["font-src"] == "'self'"
    assert policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert not re.search(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=", page.text)
    assert "{" not in re.sub(r"<pre.*?</pre>", "", page.text, flags=re.DOTALL)


def test_the_docs_ask_this_server_alone(browser: Any) -> None:
    assert "connect-src 'self';" in browser.get("/docs").headers["Content-Security-Policy"]


def test_the_demo_asks_the_media_server_that_is_set(new_app: Callable[..., App]) -> None:
    browser = TestApp(new_app(streams__hls_host="play.example.org:8080"))
    policy = browser.get("/demo").headers["Content-Security-Policy"].split("; ")
    media = "http://play.example.org:8080 https://play.example.org:8080"
    assert f"connect-src 'self' {media}" in policy
    assert f"media-src 'self' blob: {media}" in policy


def test_whoever_takes_gzip_gets_it(browser: Any) -> None:
    plain = browser.get("/docs")
    # WebTest unzips by itself.
    asked = Request.blank("/docs", headers={"Accept-Encoding": "br, gzip"})
    zipped = asked.get_response(browser.app)
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert zipped.headers["ETag"] != plain.headers["ETag"]
    assert zipped.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(zipped.body) == plain.body


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_a_page_is_only_read(path: str, browser: Any) -> None:
    reply = browser.post(path, status=405)
    assert reply.headers["Allow"] == "GET, HEAD"
    assert reply.json == {"result": "0003", "message": None}


def test_production_has_docs_and_no_demo(hardened_app: App) -> None:
    browser = TestApp(hardened_app)
    assert 'data-demo=""' in browser.get("/docs").text
    assert browser.get("/demo", status=404).json["result"] == "0003"


def test_both_can_be_switched_off(new_app: Callable[..., App]) -> None:
    app = new_app(docs__enabled="false", demo__enabled="false")
    assert app.registry.pages == {}
    for path in ("/docs", "/openapi.json", "/demo"):
        assert TestApp(app).get(path, status=404).json["result"] == "0003"


def test_a_demo_without_docs(new_app: Callable[..., App]) -> None:
    browser = TestApp(new_app(docs__enabled="false"))
    assert 'data-docs=""' in browser.get("/demo").text
    assert browser.get("/openapi.json", status=404)


def test_the_document_is_served_as_it_was_made(app: App, browser: Any) -> None:
    reply = browser.get("/openapi.json")
    assert reply.content_type == "application/json"
    assert reply.json == json.loads(app.registry.pages["openapi.json"].body)


def test_what_others_wrote_is_as_they_published_it() -> None:
    """Each with its licence; .ci/vendor.sh says where each is from."""
    vendor = STATIC / "vendor"
    lines = (vendor / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    there = {entry.name for entry in vendor.iterdir()} - {"SHA256SUMS"}
    assert there == listed.keys()
    for name, digest in listed.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name
        if not name.endswith(".txt"):
            assert f"{name.partition('.')[0]}.LICENSE.txt" in there
