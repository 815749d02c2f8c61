"""Play URLs of a stream."""

from livebackend.gateways.streams.stream_documents import play_urls


def test_protocol_without_a_host_has_no_play_url() -> None:
    document = {"hub": "h", "title": "t", "hosts": {"live": {"rtmp": "r.example", "hdl": ""}}}
    assert play_urls(document) == {"rtmp": "rtmp://r.example/h/t", "hls": None, "hdl": None}
