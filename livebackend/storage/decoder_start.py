"""Start of the decoder process, without the decoders: workers do not import Pillow."""

import json
import os
import socket
import subprocess
import sys
from typing import NamedTuple

from livebackend.core.cpu_binding import unbind

STARTED = b"+"
_MODULE = "livebackend.storage.decoder_process"


class DecoderLimits(NamedTuple):
    """The limits of one picture: CPU time, elapsed time, and bytes of memory."""

    cpu_s: float
    timeout_s: float
    memory_bytes: int


def start(limits: DecoderLimits) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a decoder process; return it, and the socket for the sockets of pictures."""
    control, decoder_control = socket.socketpair()
    with decoder_control:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, json.dumps(limits)],
            stdin=decoder_control.fileno(),
            stdout=subprocess.DEVNULL,
            # The environment of the worker contains secrets.
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd="/",
        )
    unbind(process.pid)
    return process, control
