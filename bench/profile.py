"""Profile one operation: `make profile OP=friendlist`.

One thread calls the WSGI application for some seconds, without a server, while py-spy samples its
stack 500 times per second.
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

from bench import fill_database
from bench.servers import PEPPER, ROOT, SECRET, environment
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.services.password_hashing import PasswordHasher

SECONDS = 6
_FUNCTIONS_SHOWN = 25
_TOKEN = "token={token}&"
# Path and template of the encoded form, by operation.
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
    "log_in": ("/log", f"userId={{other}}&password={fill_database.PASSWORD}"),
    "send_code": ("/register", "token={other}"),
    "nothing": ("/list", "friendlist=1"),
}


def main(operation: str) -> None:
    if operation not in OPERATIONS:
        raise SystemExit(f"unknown operation {operation}; set OP to one of: {' '.join(OPERATIONS)}")
    with tempfile.TemporaryDirectory(prefix="livebackend-profile-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", durable=False)
        database = Database(postgres.start())
        migrate(database)
        password_hash = PasswordHasher(PEPPER, cost=12).hash(fill_database.PASSWORD)
        fill_database.fill_database(database, user_count=100_000, password_hash=password_hash)
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
        command += ["bench.profile", "--call", operation]
        variables = environment(postgres.url("livebackend"), Path(folder))
        completed = subprocess.run(
            command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if completed.returncode or not stacks.exists():
            raise SystemExit(completed.stdout + completed.stderr)
        print(next(line for line in completed.stdout.splitlines() if "per request" in line))
        print_profile(stacks.read_text())
        postgres.close()


def print_profile(stacks: str) -> None:
    """Print the slowest functions: by own time, then by time including callees.

    The second list contains only functions of livebackend.
    """
    own_sample_counts: Counter[str] = Counter()
    inclusive_sample_counts: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, sample_count_text = line.rpartition(" ")
        names = [name.rpartition(":")[0] or name for name in frames.split(";")]
        # Count only samples of requests, not of the application's start.
        if any(name.startswith("call_repeatedly ") for name in names):
            own_sample_counts[names[-1]] += int(sample_count_text)
            inclusive_sample_counts.update(
                {name: int(sample_count_text) for name in set(names) if "(livebackend" in name}
            )
    total_samples = own_sample_counts.total()
    for title, sample_counts in (
        ("own time", own_sample_counts),
        ("total time of livebackend functions", inclusive_sample_counts),
    ):
        print(f"\n{title}:")
        for name, sample_count in sample_counts.most_common(_FUNCTIONS_SHOWN):
            print(f"{100 * sample_count / total_samples:5.1f} %  {name}")


def run_requests(operation: str, seconds: float) -> None:
    """Call an operation for some seconds, and print the CPU time per request."""
    from pyramid.paster import get_app

    from bench.harness import new_token_issuer

    app = get_app(str(ROOT / "production.ini"))
    issue_token = new_token_issuer()
    path, form_template = OPERATIONS[operation]
    bodies = []
    for n in range(1, 1001):
        values = {
            "token": issue_token("livebackend", n),
            "me": fill_database.phone_number(n),
            "other": fill_database.phone_number(n + 5000),
        }
        bodies.append(form_template.format(**values).encode())
    cpu_before = time.process_time()
    request_count = call_repeatedly(app, path, bodies, seconds)
    cpu_ms = 1000 * (time.process_time() - cpu_before) / request_count
    print(f"{operation}: {cpu_ms:.3f} ms of CPU per request")
    app.registry.services.close()


def call_repeatedly(app: Any, path: str, bodies: list[bytes], seconds: float) -> int:
    """Call the application in a loop; return the number of calls.

    print_profile() counts only the samples that were taken during this function.
    """
    call_count, ends_at = 0, time.monotonic() + seconds
    while time.monotonic() < ends_at:
        b"".join(app(environ(path, bodies[call_count % len(bodies)]), lambda *_: None))
        call_count += 1
    return call_count


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
        run_requests(sys.argv[2], SECONDS)
    else:
        main(sys.argv[1])
