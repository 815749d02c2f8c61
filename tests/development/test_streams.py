"""The development stream gateway."""

from livebackend.development.streams import DevelopmentStreams
from livebackend.gateways.streams import StreamGateway


def new_gateway(now_s: float = 1_483_669_725.799) -> DevelopmentStreams:
    return DevelopmentStreams(hub="mrpyq", clock=lambda: now_s)


def test_development_streams_implement_the_gateway_protocol() -> None:
    assert isinstance(new_gateway(), StreamGateway)


def test_create_with_the_same_arguments_returns_the_same_stream() -> None:
    assert new_gateway().create("abc", "key") == new_gateway().create("abc", "key")


def test_stream_document_has_the_values_of_the_example_in_the_api_document() -> None:
    document = new_gateway().create("586f00dd5e77b017852a1a7e", "96aaffaee4505e6d").document
    assert document["id"] == "z1.mrpyq.586f00dd5e77b017852a1a7e"
    assert document["title"] == "586f00dd5e77b017852a1a7e"
    assert document["publishKey"] == "96aaffaee4505e6d"
    assert document["createdAt"] == document["updatedAt"] == "2017-01-06T10:28:45.799+08:00"
    assert document["expireAt"] == "2017-01-22T10:28:45.799000+08:00"
