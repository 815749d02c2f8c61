"""Streams that are really published and really watched: nginx, ffmpeg, hls.js in Chromium."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.media.conftest import (
    ABSENT_S,
    HUB,
    KEPT,
    LOOPBACK,
    SECRET,
    Broadcaster,
    Nginx,
    figure,
    listening,
    media_server,
    until,
)
from tests.support.fake_server import closed_port
from tests.support.servers import Server

pytestmark = pytest.mark.media

Publish = Callable[..., "subprocess.Popen[bytes]"]
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--autoplay-policy=no-user-gesture-required",
]


def publish_url(stream: dict[str, Any], *, key: str | None = None) -> str:
    """As the app makes it from the stream's JSON."""
    host = stream["hosts"]["publish"]["rtmp"]
    key = stream["publishKey"] if key is None else key
    return f"rtmp://{host}/{stream['hub']}/{stream['title']}?key={key}"


def stream_port(stream: dict[str, Any]) -> int:
    return int(stream["hosts"]["publish"]["rtmp"].rpartition(":")[2])


def on_air(nginx: Nginx, stream: dict[str, Any]) -> bool:
    stat = requests.get(f"http://127.0.0.1:{nginx.control}/stat", timeout=5).text
    _, found, rest = stat.partition(f"<name>{stream['title']}</name>")
    return bool(found) and "<active/>" in rest.partition("</stream>")[0]


def has_ended(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


@pytest.fixture
def stream(nginx: Nginx, ann: Broadcaster) -> dict[str, Any]:
    return ann.live()


@pytest.fixture
def first(nginx: Nginx, stream: dict[str, Any], publish: Publish) -> "subprocess.Popen[bytes]":
    """An ffmpeg that publishes Ann's stream, and is on air."""
    process = publish(publish_url(stream))
    figure("ffmpeg starts → on air", until(lambda: on_air(nginx, stream), 10, "on air"))
    return process


def test_nginx_runs_without_privileges_and_on_loopback_only(nginx: Nginx) -> None:
    for pid in (nginx.process.pid, nginx.worker()):
        status = Path(f"/proc/{pid}/status").read_text()
        (uids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
        assert "0" not in uids
        assert listening(pid) == {LOOPBACK}


@pytest.mark.parametrize("wrong", ["wrong key", "no key", "unknown title", "unknown app"])
def test_whoever_has_no_right_is_refused(
    wrong: str, nginx: Nginx, stream: dict[str, Any], publish: Publish
) -> None:
    url = {
        "wrong key": publish_url(stream, key="0123456789abcdef"),
        "no key": publish_url(stream).partition("?")[0],
        "unknown title": publish_url({**stream, "title": "0" * 24}),
        "unknown app": publish_url({**stream, "hub": "other"}),
    }[wrong]
    refused = publish(url)
    figure(f"{wrong} → refused", until(lambda: has_ended(refused), 10, "refused"))
    assert refused.returncode != 0
    assert not on_air(nginx, stream)


def test_it_is_published_listed_and_played(
    nginx: Nginx,
    ann: Broadcaster,
    people: Callable[[], Broadcaster],
    stream: dict[str, Any],
    first: "subprocess.Popen[bytes]",
) -> None:
    ben = people()
    ben.post("/friend", add="1", userId=ann.phone)
    ann.post("/friend", add="1", userId=ben.phone)
    friend = ben.friend()
    assert (friend["userId"], friend["liveStatus"], friend["title"]) == (ann.phone, "on", "hello")
    url = friend["playUrl"]["hls"]
    assert friend["playUrl"]["hdl"] is None

    def plays() -> bool:
        return requests.get(url, timeout=5).status_code == 200

    figure("on air → first playlist", until(plays, 15, "a playlist"))
    probe = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height"]
    for watched in (url, friend["playUrl"]["rtmp"]):
        done = subprocess.run(
            [*probe, "-of", "csv=p=0", watched],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert set(done.stdout.split()) == {"aac", "h264,320,180"}
    assert not has_ended(first)


def test_chromium_shows_moving_frames(
    nginx: Nginx,
    stream: dict[str, Any],
    first: "subprocess.Popen[bytes]",
    page: str,
    tmp_path: Path,
) -> None:
    from playwright.sync_api import sync_playwright

    hls = f"http://{stream['hosts']['live']['hls']}/{HUB}/{stream['title']}.m3u8"
    until(lambda: requests.get(hls, timeout=5).status_code == 200, 15, "a playlist")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path="/usr/bin/chromium",
            headless=True,
            args=FLAGS,
            viewport={"width": 360, "height": 220},
        )
        try:
            tab = context.pages[0] if context.pages else context.new_page()
            begun = time.monotonic()
            tab.goto(f"{page}?url={hls}", timeout=20_000)
            tab.wait_for_function(
                "video.readyState >= 3 && video.currentTime > 0.5", timeout=30_000
            )
            figure("Chromium opens the page → moving picture", time.monotonic() - begun)
            before = tab.evaluate("shown()")
            tab.wait_for_function(f"video.currentTime > {before['time']} + 2", timeout=20_000)
            after = tab.evaluate("shown()")
            tab.screenshot(path=str(KEPT / "chromium.png"))
            fatal = tab.evaluate("fatal")
            size = tab.evaluate("[video.videoWidth, video.videoHeight, !!video.error]")
        finally:
            context.close()
    assert fatal == []
    assert size == [320, 180, False]
    assert after["time"] - before["time"] >= 2
    changed = sum(
        abs(one - other) > 16 for one, other in zip(before["pixels"], after["pixels"], strict=True)
    )
    # A still or black picture changes nowhere; this one has a clock and moving bars.
    assert changed > 200
    assert len(set(after["pixels"])) > 50
    assert (KEPT / "chromium.png").stat().st_size > 2000


def test_leaving_cuts_the_publisher_off_for_good(
    nginx: Nginx,
    ann: Broadcaster,
    stream: dict[str, Any],
    first: "subprocess.Popen[bytes]",
    publish: Publish,
) -> None:
    hls = f"http://{stream['hosts']['live']['hls']}/{HUB}/{stream['title']}.m3u8"
    until(lambda: requests.get(hls, timeout=5).status_code == 200, 15, "a playlist")
    assert ann.post("/room", leave="1") == {"result": "0000", "message": None}
    took_s = until(lambda: not on_air(nginx, stream), 1, "off air")
    figure("leave → publisher off air", took_s)
    figure("leave → ffmpeg ends", until(lambda: has_ended(first), 5, "ffmpeg ends"))
    again = publish(publish_url(stream))
    figure("leave → reconnect refused", until(lambda: has_ended(again), 10, "refused"))
    assert again.returncode != 0
    assert not on_air(nginx, stream)
    # The playlist is still on the disk.
    assert requests.get(hls, timeout=5).status_code == 403
    assert ann.post("/room", leave="1")["result"] == "0009"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_broadcaster_who_vanishes_is_closed(
    how: signal.Signals,
    nginx: Nginx,
    ann: Broadcaster,
    stream: dict[str, Any],
    first: "subprocess.Popen[bytes]",
) -> None:
    what = {signal.SIGKILL: "killed", signal.SIGSTOP: "frozen"}[how]
    first.send_signal(how)
    figure(f"ffmpeg {what} → off air", until(lambda: not on_air(nginx, stream), 25, "off air"))
    assert ann.is_open
    took_s = until(lambda: not ann.is_open, ABSENT_S + 14, "the room is closed")
    assert took_s > ABSENT_S - 5
    figure(f"ffmpeg {what}: off air → room closed, of {ABSENT_S} s", took_s)
    assert ann.post("/room", leave="1")["result"] == "0009"
    assert "offline, last seen" in ann.backend.log.read_text()


def test_a_publisher_who_never_sends_a_picture_is_closed(
    nginx: Nginx, ann: Broadcaster, stream: dict[str, Any], publish: Publish
) -> None:
    silent = publish(publish_url(stream), silent_s=100)
    stat = f"http://127.0.0.1:{nginx.control}/stat"
    until(lambda: stream["title"] in requests.get(stat, timeout=5).text, 10, "connected")
    # He is given some seconds to begin.
    took_s = until(lambda: not ann.is_open, ABSENT_S + 20, "the room is closed")
    figure(f"silent from the start → room closed, of {ABSENT_S} s", took_s)
    until(lambda: stream["title"] not in requests.get(stat, timeout=5).text, 5, "dropped")
    # Who writes nothing does not notice.
    assert not has_ended(silent)


def test_a_second_publisher_does_not_end_the_first(
    nginx: Nginx,
    ann: Broadcaster,
    stream: dict[str, Any],
    first: "subprocess.Popen[bytes]",
    publish: Publish,
) -> None:
    for wait_s in (0, 6):  # at once, and when the first one is well known
        time.sleep(wait_s)
        second = publish(publish_url(stream))
        took_s = until(partial(has_ended, second), 10, "refused")
        figure("second publisher → refused", took_s)
        assert second.returncode != 0
    # For longer than the absent are waited for.
    end = time.monotonic() + ABSENT_S + 6
    while time.monotonic() < end:
        assert on_air(nginx, stream)
        assert ann.is_open
        assert not has_ended(first)
        time.sleep(0.5)


def test_a_killed_worker_is_reconciled(
    nginx: Nginx,
    ann: Broadcaster,
    stream: dict[str, Any],
    first: "subprocess.Popen[bytes]",
    publish: Publish,
) -> None:
    time.sleep(6)  # for longer than a publisher may be missing from the list
    worker = nginx.worker()
    os.kill(worker, signal.SIGKILL)
    until(lambda: nginx.worker() not in (0, worker), 10, "a new worker")
    until(lambda: has_ended(first), 10, "ffmpeg ends")
    # Nobody told of his end, and he may come back all the same.
    again = publish(publish_url(stream))
    figure("worker killed → on air again", until(lambda: on_air(nginx, stream), 10, "on air"))
    end = time.monotonic() + ABSENT_S + 6
    while time.monotonic() < end:
        assert ann.is_open
        assert not has_ended(again)
        time.sleep(0.5)
    # And if he does not, his room is closed.
    worker = nginx.worker()
    os.kill(worker, signal.SIGKILL)
    until(lambda: has_ended(again), 10, "ffmpeg ends")
    took_s = until(lambda: not ann.is_open, ABSENT_S + 14, "the room is closed")
    figure(f"worker killed → room closed, of {ABSENT_S} s", took_s)


def test_while_livebackend_is_away_nobody_is_let_in(
    ann: Broadcaster, stream: dict[str, Any], publish: Publish
) -> None:
    ports = {name: closed_port() for name in ("rtmp", "http", "control")}
    with media_server(closed_port(), ports) as alone:
        refused = publish(publish_url(stream).replace(str(stream_port(stream)), str(alone.rtmp)))
        took_s = until(lambda: has_ended(refused), 10, "refused")
        figure("livebackend away → publisher refused", took_s)
        assert refused.returncode != 0
        assert not on_air(alone, stream)
        hls = f"http://127.0.0.1:{alone.http}/{HUB}/{stream['title']}.m3u8"
        assert requests.get(hls, timeout=5).status_code == 500


def test_no_log_holds_a_key(
    nginx: Nginx, backend: Server, stream: dict[str, Any], first: "subprocess.Popen[bytes]"
) -> None:
    for log in (nginx.log, backend.log.read_text()):
        assert stream["publishKey"] not in log
        assert SECRET not in log
