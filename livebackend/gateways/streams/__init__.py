"""Streams: what a provider promises; one that makes them up, Qiniu's two, and one's own server.

A setting names one of them: `livebackend.gateways.streams.PiliV2`.
"""

from livebackend.gateways.streams.embedded import EmbeddedStreams
from livebackend.gateways.streams.pili_v1 import PiliV1
from livebackend.gateways.streams.pili_v2 import PiliV2
from livebackend.gateways.streams.protocol import (
    NoSuchStream,
    NotAuthorized,
    NotLive,
    ProviderAway,
    Stream,
    StreamExists,
    StreamFailed,
    StreamGateway,
)
from livebackend.gateways.streams.self_hosted import SelfHosted

__all__ = [
    "EmbeddedStreams",
    "NoSuchStream",
    "NotAuthorized",
    "NotLive",
    "PiliV1",
    "PiliV2",
    "ProviderAway",
    "SelfHosted",
    "Stream",
    "StreamExists",
    "StreamFailed",
    "StreamGateway",
]
