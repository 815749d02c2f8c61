"""The decoder process: decodes each picture in a process with limited resources.

The pictures are untrusted. The worker process starts the decoder process (`decoder_start.py`), and
communicates with it through a socket. For each picture, it sends a socket to the decoder process,
which forks a process that serves this socket. So a picture that crashes a decoder affects no other
picture and no worker.

The worker sends the picture, and closes its direction of the socket. The response is STARTED, then
a line with the file name extension and the number of bytes, and the re-encoded picture. If the line
is empty, the picture is invalid, and the reason follows. A response that ends earlier means that
the process exceeded a limit.
"""

import ctypes
import gc
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

from PIL import Image

from livebackend.storage.decoder_start import STARTED, DecoderLimits
from livebackend.storage.picture_encoding import reencode

# Requests of the API have precedence over pictures. With a higher value, a large picture would not
# be decoded in time on a machine under load.
_NICENESS = 3
_CHUNK_BYTES = 1_048_576
# The kernel checks timers once per tick, and releasing the memory of a process takes CPU time too.
_CPU_MARGIN_S = 0.07


def main() -> None:
    """Fork a process for each socket that arrives, until the worker closes its socket."""
    limits = DecoderLimits(*json.loads(sys.argv[1]))
    # The process ends when the worker ends, which can be later than the signal to stop.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)
    # The loop below waits for pictures and for ended processes. Without the wakeup descriptor, a
    # signal just before the wait would be handled only after it.
    ended, ended_writer = socket.socketpair()
    ended_writer.setblocking(False)  # required by set_wakeup_fd
    signal.set_wakeup_fd(ended_writer.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # The process inherits the signal mask of a thread of the server, but SIGALRM must end pictures.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.nice(_NICENESS)
    Image.init()
    gc.freeze()
    control = socket.socket(fileno=sys.stdin.fileno())
    while True:
        ready, _, _ = select.select([control, ended], [], [])
        if ended in ready:
            ended.recv(_CHUNK_BYTES)
            _reap()
        if control not in ready:
            continue
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        with socket.socket(fileno=descriptors[0]) as connection:
            _fork_for(connection, limits, unused=(control, ended, ended_writer))


def _fork_for(
    connection: socket.socket, limits: DecoderLimits, *, unused: Iterable[socket.socket]
) -> None:
    """Fork a process that serves a socket; it closes the `unused` sockets."""
    try:
        process_id = os.fork()
    except OSError:  # too many processes; the worker receives no STARTED
        return
    if process_id == 0:
        signal.set_wakeup_fd(-1)
        for unused_socket in unused:
            unused_socket.close()
        _limit_resources(limits)
        with suppress(ConnectionError):  # the worker no longer waits for the picture
            _serve(connection)
        os._exit(0)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _limit_resources(limits: DecoderLimits) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for limit, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        # Whole seconds. A picture that exploits a decoder can disable the timers, but not this.
        (resource.RLIMIT_CPU, math.ceil(limits.cpu_s) + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    signal.setitimer(signal.ITIMER_REAL, limits.timeout_s)
    _start_cpu_timer(limits.cpu_s - _CPU_MARGIN_S)


def _start_cpu_timer(cpu_s: float) -> None:
    """End this process after seconds of CPU time, also within a decoder."""
    if sys.platform != "linux":
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        return
    # On Linux, ITIMER_PROF counts ticks of the clock. On a busy machine, it can expire after two
    # thirds of the time. A POSIX timer is exact; its default signal is SIGALRM, which ends the
    # process.
    libc = ctypes.CDLL(None, use_errno=True)
    timer = ctypes.c_void_p()
    nanoseconds = round(cpu_s * 1e9)
    interval_and_value = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 10**9))
    if libc.timer_create(time.CLOCK_PROCESS_CPUTIME_ID, None, ctypes.byref(timer)) or (
        libc.timer_settime(timer, 0, interval_and_value, None)
    ):
        raise OSError(ctypes.get_errno(), "timer_create or timer_settime failed")


def _serve(connection: socket.socket) -> None:
    connection.sendall(STARTED)
    content = bytearray()
    while chunk := connection.recv(_CHUNK_BYTES):
        content += chunk
    try:
        extension, encoded_file = reencode(bytes(content))
    # Decoders raise exceptions of any type for invalid pictures.
    except Exception as error:  # noqa: BLE001
        connection.sendall(f"\n{type(error).__name__}: {error}".encode("utf-8", "replace"))
    else:
        connection.sendall(f"{extension} {len(encoded_file)}\n".encode())
        connection.sendall(encoded_file)


if __name__ == "__main__":
    main()
