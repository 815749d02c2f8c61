"""Responses to random requests conform to the OpenAPI documents.

Schemathesis sends the examples of a document, the limits of each schema, and random valid and
invalid forms. It checks the status, the media type, the headers and the body of each response.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import DOCUMENTS, ServerStarter
from tests.support.application import DEVELOPMENT_INI, PRODUCTION_INI, read_ini
from tests.support.servers import Server, hardened_settings

SETTINGS = Path(__file__).with_name("schemathesis.toml")

# A run takes about 20 s, and much longer if other programs use all cores.
pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def send_random_requests(server: Server, document: str, folder: Path) -> str:
    """Run schemathesis, and return its summary; fail if a response does not conform."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={SETTINGS}", "run"),
            f"{server.address}/{document}",
        ],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(DEVELOPMENT_INI.parent),
            "SCHEMATHESIS_HOOKS": "tests.contract.schemathesis_hooks",
            "CONTRACT_TEST_ADDRESS": server.address,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    summary = re.search("^Test cases:\n(.*)", result.stdout, re.MULTILINE)
    assert summary, result.stdout
    return summary[1].strip()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_responses_in_spec_mode_conform_to_the_document(
    document: str,
    new_server: ServerStarter,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    with new_server("spec") as server:
        summary = send_random_requests(server, document, tmp_path)
    record_property(f"random requests in spec mode, {document}", summary)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_responses_in_hardened_mode_conform_to_the_document(
    document: str,
    new_server: ServerStarter,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    limits = {name: "" for name in read_ini(str(DEVELOPMENT_INI)) if name.startswith("limits.")}
    # The hooks register users without SMS messages.
    settings = {**hardened_settings(""), **limits, "register.verified_phone": "optional"}
    del settings["database.url"]
    with new_server("hardened", PRODUCTION_INI, settings) as server:
        summary = send_random_requests(server, document, tmp_path)
    record_property(f"random requests in hardened mode, {document}", summary)
