"""A PostgreSQL primary with a synchronous standby, for replication tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from livebackend.development.embedded_postgres import DATABASE, USER
from tests.support.postgres_node import WAIT_S, Node, create_data_directory, socket_directory
from tests.support.waiting import wait_until


class Cluster:
    """Two nodes: a primary, and a synchronous standby that can be promoted."""

    def __init__(self, nodes: tuple[Node, Node]) -> None:
        self.nodes = nodes
        self.primary, self.standby = nodes
        self._standby_is_synchronous = False

    @property
    def url(self) -> str:
        """SQLAlchemy URL with both servers; each connection uses the current primary."""
        hosts = "&".join(f"host={quote(str(node.socket_folder))}" for node in self.nodes)
        return f"postgresql+psycopg2://{USER}@/{DATABASE}?{hosts}&target_session_attrs=read-write"

    def restore_standby(self) -> None:
        """Create a new synchronous standby, unless a standby is connected."""
        if self._standby_is_synchronous:
            return
        self.primary.configure("synchronous_standby_names", "")
        self.standby.kill()
        self.primary.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        # The standby also copies the settings. `synchronous_standby_names` is still empty here:
        # otherwise, each COMMIT after a promotion would wait for a standby that does not exist.
        self.standby.copy_from(self.primary)
        self.standby.start()
        self.primary.configure("synchronous_standby_names", self.standby.name)
        wait_until(self._is_synchronous, WAIT_S, "the standby to be synchronous")
        self._standby_is_synchronous = True

    def disconnect_standby(self) -> None:
        """Stop replication; each following COMMIT waits for the standby."""
        self._standby_is_synchronous = False
        self.standby.disconnect()
        count_query = "SELECT count(*) FROM pg_stat_replication"
        wait_until(
            lambda: self.primary.query(count_query) == [(0,)],
            WAIT_S,
            "the primary to lose its standby",
        )

    def reconnect_standby(self) -> None:
        self.standby.reconnect()
        wait_until(self._is_synchronous, WAIT_S, "the standby to be synchronous")
        self._standby_is_synchronous = True

    @contextmanager
    def disconnected_standby(self) -> Iterator[None]:
        """Disconnect the standby during the `with` block, so that each COMMIT waits."""
        self.disconnect_standby()
        try:
            yield
        finally:
            self.reconnect_standby()

    def fail_over(self) -> None:
        """Kill the primary and promote the standby."""
        self._standby_is_synchronous = False
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def _is_synchronous(self) -> bool:
        state_query = "SELECT state, sync_state FROM pg_stat_replication"
        return self.primary.query(state_query) == [("streaming", "sync")]


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start only a primary, with migrated tables; `restore_standby` adds the standby."""
    account = create_data_directory(folder / "a")
    with socket_directory() as socket_root:
        nodes = Node("a", folder, socket_root, account), Node("b", folder, socket_root, account)
        try:
            nodes[0].start()
            yield Cluster(nodes)
        finally:
            for node in nodes:
                node.kill()
