"""Linters find no error and no warning in the OpenAPI and AsyncAPI documents of a server."""

import json
from pathlib import Path

import pytest

from tests.contract.conftest import DOCUMENTS, TYPESCRIPT_FOLDER, NodeRunner

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_follows_the_recommended_rules_of_redocly(
    name: str, documents: Path, run_node: NodeRunner
) -> None:
    result = run_node(
        ".bin/redocly", "lint", "--extends=recommended", "--format=json", documents / name
    )
    findings = json.loads(result.stdout)
    assert findings["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, findings["problems"]


@pytest.mark.parametrize("name", [*DOCUMENTS, "asyncapi.json"])
def test_document_follows_the_rules_of_spectral(
    name: str, documents: Path, run_node: NodeRunner
) -> None:
    ruleset = TYPESCRIPT_FOLDER / "spectral.yaml"
    result = run_node(
        ".bin/spectral", "lint", f"--ruleset={ruleset}", "--fail-severity=hint", documents / name
    )
    assert result.returncode == 0, result.stdout + result.stderr
