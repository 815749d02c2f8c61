"""`make profile OP=friendlist`: where the time of an operation goes.

One thread calls the application for some seconds, without a server, while py-spy looks five hundred
times a second what it is at.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

from bench import fill
from bench.servers import PEPPER, ROOT, SECRET, environment
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.services.password_hashing import Hasher

SECONDS = 6
SHOWN = 25
_TOKEN = "token={token}&"
# A call of each operation: its path and its form.
OPERATIONS = {
    "friendlist": ("/list", _TOKEN + "friendlist=1"),
    "messagelist": ("/list", _TOKEN + "messagelist=1"),
    "search": ("/friend", _TOKEN + "search=1&userId={other}"),
    "add": ("/friend", _TOKEN + "add=1&userId={other}"),
    "deal_message": (
        "/friend",
        _TOKEN + "dealMessage=1&userId={other}&verifyId={me},1&objectId={other},1&behaviour=accept",
    ),
    "unfriend": ("/friend", _TOKEN + "delete=1&userId={other}"),
    "send_gift": ("/golden", _TOKEN + "send_gift=1&object={other}&value=1&description=rose"),
    "refill": ("/golden", _TOKEN + "refill=1&money=10"),
    "live": ("/room", _TOKEN + "live=1&title=hello"),
    "leave": ("/room", _TOKEN + "leave=1"),
    "log_in": ("/log", f"userId={{other}}&password={fill.PASSWORD}"),
    "send_code": ("/register", "token={other}"),
    "nothing": ("/list", "friendlist=1"),
}


def main(name: str) -> None:
    if name not in OPERATIONS:
        raise SystemExit(f"OP is one of: {' '.join(OPERATIONS)}")
    with tempfile.TemporaryDirectory(prefix="livebackend-profile-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", durable=False)
        database = Database(postgres.start())
        migrate(database)
        known = Hasher(PEPPER, cost=12).hash(fill.PASSWORD)
        fill.fill(database, users=100_000, password_hash=known)
        database.close()
        stacks = Path(folder) / "stacks"
        command = [
            str(Path(sys.executable).with_name("py-spy")),
            "record",
            "--gil",
            "--nonblocking",
            "--rate=500",
        ]
        command += ["--format=raw", f"--output={stacks}", "--", sys.executable, "-m"]
        command += ["bench.profile", "--call", name]
        variables = environment(postgres.url("livebackend"), Path(folder))
        done = subprocess.run(
            command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode or not stacks.exists():
            raise SystemExit(done.stdout + done.stderr)
        print(next(line for line in done.stdout.splitlines() if "a call" in line))
        show(stacks.read_text())
        postgres.close()


def show(stacks: str) -> None:
    """Prints which functions had the time themselves, and which of ours with all they called."""
    alone: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, samples = line.rpartition(" ")
        names = [name.rpartition(":")[0] or name for name in frames.split(";")]
        if any(name.startswith("over_and_over ") for name in names):  # and not the start
            alone[names[-1]] += int(samples)
            ours.update({name: int(samples) for name in set(names) if "(livebackend" in name})
    total = alone.total()
    for title, counts in (("by itself", alone), ("of ours, with all it calls", ours)):
        print(f"\n{title}:")
        for name, samples_of in counts.most_common(SHOWN):
            print(f"{100 * samples_of / total:5.1f} %  {name}")


def calls_for(name: str, seconds: float) -> None:
    """Makes calls for some seconds, and says what CPU time one took."""
    from pyramid.paster import get_app

    from bench.__main__ import new_tokens

    app = get_app(str(ROOT / "production.ini"))
    token = new_tokens()
    path, form = OPERATIONS[name]
    bodies = []
    for n in range(1, 1001):
        values = {"token": token("ours", n), "me": fill.phone(n), "other": fill.phone(n + 5000)}
        bodies.append(form.format(**values).encode())
    cpu = time.process_time()
    count = over_and_over(app, path, bodies, seconds)
    print(f"{name}: {1000 * (time.process_time() - cpu) / count:.3f} ms of CPU a call")
    app.registry.services.close()


def over_and_over(app: Any, path: str, bodies: list[bytes], seconds: float) -> int:
    """The loop that the profile shows, and nothing else."""
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        b"".join(app(environ(path, bodies[count % len(bodies)]), lambda *reply: None))
        count += 1
    return count


def environ(path: str, body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


if __name__ == "__main__":
    if sys.argv[1] == "--call":
        assert os.environ["LIVEBACKEND_SECRETS"] == SECRET
        calls_for(sys.argv[2], SECONDS)
    else:
        main(sys.argv[1])
