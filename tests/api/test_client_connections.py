"""Detection of clients that have closed their connection."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livebackend.api.client_connections import ClientConnections


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def accept(listener: socket.socket) -> socket.socket:
    """Return the server's socket of a connection that the client closes at once."""
    with socket.create_connection(listener.getsockname()):
        return listener.accept()[0]


def test_client_is_disconnected_when_the_server_has_closed_its_socket(
    listener: socket.socket,
) -> None:
    connections, port = ClientConnections(), listener.getsockname()[1]
    with closing(accept(listener)):
        is_connected = connections.watch(port)
        assert is_connected()
    assert not is_connected()


def test_later_connections_do_not_hide_a_closed_one(listener: socket.socket) -> None:
    connections, port = ClientConnections(), listener.getsockname()[1]
    with closing(accept(listener)):
        is_connected = connections.watch(port)
    with closing(accept(listener)), closing(socket.create_connection(listener.getsockname())):
        assert not is_connected()
        assert connections.watch(port)()


def test_client_can_be_connected_while_one_of_the_earlier_sockets_is_open(
    listener: socket.socket,
) -> None:
    connections, port = ClientConnections(), listener.getsockname()[1]
    with closing(accept(listener)) as earlier:
        with closing(accept(listener)):
            is_connected = connections.watch(port)
        assert is_connected()
        earlier.close()
        assert not is_connected()


def test_request_that_begins_without_an_open_socket_has_no_client(
    listener: socket.socket,
) -> None:
    assert not ClientConnections().watch(listener.getsockname()[1])()


def test_client_of_a_process_that_does_not_listen_counts_as_connected() -> None:
    assert ClientConnections().watch(80)()


def test_system_without_proc_counts_every_client_as_connected(
    listener: socket.socket, tmp_path: Path
) -> None:
    assert ClientConnections(tmp_path / "missing").watch(listener.getsockname()[1])()


def test_descriptor_that_is_no_socket_any_more_is_not_left_open(
    tmp_path: Path, listener: socket.socket
) -> None:
    # Another thread has closed a socket, and its descriptor is now of a file.
    descriptors = tmp_path / "fd"
    descriptors.mkdir()
    with (tmp_path / "file").open("w") as file:
        (descriptors / str(file.fileno())).symlink_to("socket:[1]")
        open_count = len(list(Path("/proc/self/fd").iterdir()))
        ClientConnections(descriptors).watch(listener.getsockname()[1])
        assert len(list(Path("/proc/self/fd").iterdir())) == open_count


def test_each_socket_is_examined_once(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections, port = ClientConnections(), listener.getsockname()[1]
    with closing(accept(listener)):
        is_connected = connections.watch(port)
        monkeypatch.setattr("os.dup", lambda descriptor: pytest.fail("examined again"))
        assert is_connected()
