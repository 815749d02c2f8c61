"""Stream gateways: the protocol, Qiniu's Pili v1 and v2, and nginx-rtmp."""

from livebackend.gateways.streams.nginx_rtmp import NginxRtmpStreams
from livebackend.gateways.streams.pili_v1 import PiliV1
from livebackend.gateways.streams.pili_v2 import PiliV2
from livebackend.gateways.streams.protocol import (
    NoPublisher,
    NoSuchStream,
    NotAuthorized,
    ProviderUnavailable,
    Stream,
    StreamExists,
    StreamFailed,
    StreamGateway,
    StreamReference,
    parse_document,
    stream_reference,
)

__all__ = [
    "NginxRtmpStreams",
    "NoPublisher",
    "NoSuchStream",
    "NotAuthorized",
    "PiliV1",
    "PiliV2",
    "ProviderUnavailable",
    "Stream",
    "StreamExists",
    "StreamFailed",
    "StreamGateway",
    "StreamReference",
    "parse_document",
    "stream_reference",
]
