"""Stream gateways: the protocol, Qiniu's Pili v1 and v2, and nginx-rtmp."""

from livebackend.gateways.streams.nginx_rtmp import NginxRtmpStreams
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
    document_of,
)

__all__ = [
    "NginxRtmpStreams",
    "NoSuchStream",
    "NotAuthorized",
    "NotLive",
    "PiliV1",
    "PiliV2",
    "ProviderAway",
    "Stream",
    "StreamExists",
    "StreamFailed",
    "StreamGateway",
    "document_of",
]
