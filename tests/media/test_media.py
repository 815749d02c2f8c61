"""Tests with real streams: ffmpeg publishes, and hls.js in Chromium plays."""

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
    HUB,
    LOOPBACK,
    OFFLINE_TIMEOUT_S,
    RESULTS,
    SECRET,
    Host,
    Nginx,
    listening_addresses,
    measure_wait,
    media_server,
    record_time,
)
from tests.support.chromium import CHROMIUM_FLAGS, CHROMIUM_PATH
from tests.support.servers import Server, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.media

Publish = Callable[..., "subprocess.Popen[bytes]"]


def publish_url(stream: dict[str, Any], *, key: str | None = None) -> str:
    """Build the publish URL from the JSON of a stream, as the mobile app does."""
    host = stream["hosts"]["publish"]["rtmp"]
    key = stream["publishKey"] if key is None else key
    return f"rtmp://{host}/{stream['hub']}/{stream['title']}?key={key}"


def stream_port(stream: dict[str, Any]) -> int:
    return int(stream["hosts"]["publish"]["rtmp"].rpartition(":")[2])


def is_live(nginx: Nginx, stream: dict[str, Any]) -> bool:
    statistics = requests.get(f"http://127.0.0.1:{nginx.control_port}/stat", timeout=5).text
    _, name, rest = statistics.partition(f"<name>{stream['title']}</name>")
    return bool(name) and "<active/>" in rest.partition("</stream>")[0]


def has_exited(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


@pytest.fixture
def stream(nginx: Nginx, ann: Host) -> dict[str, Any]:
    return ann.go_live()


@pytest.fixture
def publisher(nginx: Nginx, stream: dict[str, Any], publish: Publish) -> "subprocess.Popen[bytes]":
    """A running ffmpeg that publishes Ann's stream."""
    process = publish(publish_url(stream))
    record_time(
        "ffmpeg starts → live",
        measure_wait(lambda: is_live(nginx, stream), 10, "the stream to be live"),
    )
    return process


def test_nginx_runs_without_privileges_and_on_loopback_only(nginx: Nginx) -> None:
    for pid in (nginx.process.pid, nginx.worker_pid()):
        status = Path(f"/proc/{pid}/status").read_text()
        (uids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
        assert "0" not in uids
        assert listening_addresses(pid) == {LOOPBACK}


@pytest.mark.parametrize("mistake", ["wrong key", "no key", "unknown title", "unknown app"])
def test_publisher_without_a_valid_url_is_rejected(
    mistake: str, nginx: Nginx, stream: dict[str, Any], publish: Publish
) -> None:
    url = {
        "wrong key": publish_url(stream, key="0123456789abcdef"),
        "no key": publish_url(stream).partition("?")[0],
        "unknown title": publish_url({**stream, "title": "0" * 24}),
        "unknown app": publish_url({**stream, "hub": "other"}),
    }[mistake]
    rejected_publisher = publish(url)
    record_time(
        f"publisher with {mistake} → rejected",
        measure_wait(lambda: has_exited(rejected_publisher), 10, "ffmpeg to exit"),
    )
    assert rejected_publisher.returncode != 0
    assert not is_live(nginx, stream)


def test_published_stream_is_listed_and_playable(
    nginx: Nginx,
    ann: Host,
    new_host: Callable[[], Host],
    stream: dict[str, Any],
    publisher: "subprocess.Popen[bytes]",
) -> None:
    ben = new_host()
    ben.post("/friend", add="1", userId=ann.phone)
    ann.post("/friend", add="1", userId=ben.phone)
    friend = ben.only_friend()
    assert (friend["userId"], friend["liveStatus"], friend["title"]) == (ann.phone, "on", "hello")
    url = friend["playUrl"]["hls"]
    assert friend["playUrl"]["hdl"] is None

    def has_playlist() -> bool:
        return requests.get(url, timeout=5).status_code == 200

    record_time("live → first playlist", measure_wait(has_playlist, 15, "the playlist"))
    probe = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height"]
    for playback_url in (url, friend["playUrl"]["rtmp"]):
        probed = subprocess.run(
            [*probe, "-of", "csv=p=0", playback_url],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert set(probed.stdout.split()) == {"aac", "h264,320,180"}
    assert not has_exited(publisher)


def test_chromium_shows_moving_frames(
    nginx: Nginx,
    stream: dict[str, Any],
    publisher: "subprocess.Popen[bytes]",
    page: str,
    tmp_path: Path,
) -> None:
    from playwright.sync_api import sync_playwright

    hls = f"http://{stream['hosts']['live']['hls']}/{HUB}/{stream['title']}.m3u8"
    wait_until(lambda: requests.get(hls, timeout=5).status_code == 200, 15, "the playlist")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=CHROMIUM_PATH,
            headless=True,
            args=[*CHROMIUM_FLAGS, "--autoplay-policy=no-user-gesture-required"],
            viewport={"width": 360, "height": 220},
        )
        try:
            tab = context.pages[0] if context.pages else context.new_page()
            start = time.monotonic()
            tab.goto(f"{page}?url={hls}", timeout=20_000)
            tab.wait_for_function(
                "video.readyState >= 3 && video.currentTime > 0.5", timeout=30_000
            )
            record_time("Chromium opens the page → moving picture", time.monotonic() - start)
            first_frame = tab.evaluate("currentFrame()")
            tab.wait_for_function(f"video.currentTime > {first_frame['time']} + 2", timeout=20_000)
            later_frame = tab.evaluate("currentFrame()")
            tab.screenshot(path=str(RESULTS / "chromium.png"))
            fatal_errors = tab.evaluate("fatal")
            size_and_error = tab.evaluate("[video.videoWidth, video.videoHeight, !!video.error]")
        finally:
            context.close()
    assert fatal_errors == []
    assert size_and_error == [320, 180, False]
    assert later_frame["time"] - first_frame["time"] >= 2
    changed_values = sum(
        abs(old - new) > 16
        for old, new in zip(first_frame["pixels"], later_frame["pixels"], strict=True)
    )
    # The test video shows a clock and moving bars. A frozen or black video does not change.
    assert changed_values > 200
    assert len(set(later_frame["pixels"])) > 50
    assert (RESULTS / "chromium.png").stat().st_size > 2000


def test_closing_the_room_disconnects_and_blocks_the_publisher(
    nginx: Nginx,
    ann: Host,
    stream: dict[str, Any],
    publisher: "subprocess.Popen[bytes]",
    publish: Publish,
) -> None:
    hls = f"http://{stream['hosts']['live']['hls']}/{HUB}/{stream['title']}.m3u8"
    wait_until(lambda: requests.get(hls, timeout=5).status_code == 200, 15, "the playlist")
    assert ann.post("/room", leave="1") == {"result": "0000", "message": None}
    took_s = measure_wait(lambda: not is_live(nginx, stream), 1, "the stream to end")
    record_time("room closed → stream ends", took_s)
    record_time(
        "room closed → ffmpeg exits",
        measure_wait(lambda: has_exited(publisher), 5, "ffmpeg to exit"),
    )
    second_publisher = publish(publish_url(stream))
    record_time(
        "reconnection → rejected",
        measure_wait(lambda: has_exited(second_publisher), 10, "ffmpeg to exit"),
    )
    assert second_publisher.returncode != 0
    assert not is_live(nginx, stream)
    # The playlist still exists on the disk of nginx, so the backend must deny access to the URL.
    assert requests.get(hls, timeout=5).status_code == 403
    assert ann.post("/room", leave="1")["result"] == "0009"


@pytest.mark.parametrize("failure", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_room_closes_after_the_publisher_goes_offline(
    failure: signal.Signals,
    nginx: Nginx,
    ann: Host,
    stream: dict[str, Any],
    publisher: "subprocess.Popen[bytes]",
) -> None:
    failure_name = {signal.SIGKILL: "killed", signal.SIGSTOP: "frozen"}[failure]
    publisher.send_signal(failure)
    took_s = measure_wait(lambda: not is_live(nginx, stream), 25, "the stream to end")
    record_time(f"ffmpeg {failure_name} → stream ends", took_s)
    assert ann.is_listed
    took_s = measure_wait(lambda: not ann.is_listed, OFFLINE_TIMEOUT_S + 14, "the room to close")
    assert took_s > OFFLINE_TIMEOUT_S - 5
    record_time(
        f"ffmpeg {failure_name}: stream ends → room closed, timeout {OFFLINE_TIMEOUT_S} s", took_s
    )
    assert ann.post("/room", leave="1")["result"] == "0009"
    assert "closed (offline), stream last seen" in ann.backend.read_log()


def test_room_closes_if_the_publisher_sends_no_video(
    nginx: Nginx, ann: Host, stream: dict[str, Any], publish: Publish
) -> None:
    silent_publisher = publish(publish_url(stream), silent_s=100)
    statistics_url = f"http://127.0.0.1:{nginx.control_port}/stat"
    wait_until(
        lambda: stream["title"] in requests.get(statistics_url, timeout=5).text,
        10,
        "the publisher to connect",
    )
    # The room stays open during the 5-second grace period of a new publisher, so wait longer than
    # the timeout.
    took_s = measure_wait(lambda: not ann.is_listed, OFFLINE_TIMEOUT_S + 20, "the room to close")
    record_time(f"no video → room closed, timeout {OFFLINE_TIMEOUT_S} s", took_s)
    wait_until(
        lambda: stream["title"] not in requests.get(statistics_url, timeout=5).text,
        5,
        "nginx to drop the publisher",
    )
    # ffmpeg sends nothing, so it does not detect that the connection is closed.
    assert not has_exited(silent_publisher)


def test_second_publisher_is_rejected_and_the_first_stays_live(
    nginx: Nginx,
    ann: Host,
    stream: dict[str, Any],
    publisher: "subprocess.Popen[bytes]",
    publish: Publish,
) -> None:
    for wait_s in (0, 6):  # during and after the first publisher's grace period of 5 s
        time.sleep(wait_s)
        second_publisher = publish(publish_url(stream))
        took_s = measure_wait(partial(has_exited, second_publisher), 10, "ffmpeg to exit")
        record_time("second publisher → rejected", took_s)
        assert second_publisher.returncode != 0
    # Wait longer than the offline timeout: the room of the first publisher must stay open.
    deadline = time.monotonic() + OFFLINE_TIMEOUT_S + 6
    while time.monotonic() < deadline:
        assert is_live(nginx, stream)
        assert ann.is_listed
        assert not has_exited(publisher)
        time.sleep(0.5)


def test_room_survives_an_nginx_crash_only_if_the_publisher_reconnects(
    nginx: Nginx,
    ann: Host,
    stream: dict[str, Any],
    publisher: "subprocess.Popen[bytes]",
    publish: Publish,
) -> None:
    time.sleep(6)  # wait until the grace period of the new publisher has ended
    worker_pid = nginx.worker_pid()
    os.kill(worker_pid, signal.SIGKILL)
    wait_until(lambda: nginx.worker_pid() not in (0, worker_pid), 10, "a new nginx worker")
    wait_until(lambda: has_exited(publisher), 10, "ffmpeg to exit")
    # The killed nginx worker did not report that the first publisher left. The backend therefore
    # asks nginx for the live publishers before it accepts the second publisher.
    second_publisher = publish(publish_url(stream))
    took_s = measure_wait(lambda: is_live(nginx, stream), 10, "the stream to be live")
    record_time("nginx worker killed → live again", took_s)
    deadline = time.monotonic() + OFFLINE_TIMEOUT_S + 6
    while time.monotonic() < deadline:
        assert ann.is_listed
        assert not has_exited(second_publisher)
        time.sleep(0.5)
    # The second publisher does not reconnect, so the room must close.
    worker_pid = nginx.worker_pid()
    os.kill(worker_pid, signal.SIGKILL)
    wait_until(lambda: has_exited(second_publisher), 10, "ffmpeg to exit")
    took_s = measure_wait(lambda: not ann.is_listed, OFFLINE_TIMEOUT_S + 14, "the room to close")
    record_time(f"nginx worker killed → room closed, timeout {OFFLINE_TIMEOUT_S} s", took_s)


def test_publishers_and_viewers_are_rejected_while_livebackend_is_down(
    ann: Host, stream: dict[str, Any], publish: Publish
) -> None:
    ports = {name: free_port() for name in ("rtmp", "http", "control")}
    with media_server(free_port(), ports) as server_without_backend:
        rejected_publisher = publish(
            publish_url(stream).replace(
                str(stream_port(stream)), str(server_without_backend.rtmp_port)
            )
        )
        took_s = measure_wait(lambda: has_exited(rejected_publisher), 10, "ffmpeg to exit")
        record_time("livebackend down → publisher rejected", took_s)
        assert rejected_publisher.returncode != 0
        assert not is_live(server_without_backend, stream)
        hls = f"http://127.0.0.1:{server_without_backend.http_port}/{HUB}/{stream['title']}.m3u8"
        assert requests.get(hls, timeout=5).status_code == 500


def test_logs_contain_no_publish_key_or_secret(
    nginx: Nginx, backend: Server, stream: dict[str, Any], publisher: "subprocess.Popen[bytes]"
) -> None:
    for log in (nginx.log, backend.log.read_text()):
        assert stream["publishKey"] not in log
        assert SECRET not in log
