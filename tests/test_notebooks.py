"""The notebooks are as they were executed: whole, in order, without errors, with their pictures."""

import ast
import json
from pathlib import Path

import pytest

import keras_onecycle

NOTEBOOKS = Path(__file__).parent.parent / "examples" / "notebooks"

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("name", ["quickstart"])
def test_a_notebook_was_executed_from_top_to_bottom(name: str) -> None:
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
    for cell in code:
        draws = any(call in "".join(cell["source"]) for call in (".plot()", ".subplots("))
        assert draws == any("image/png" in output.get("data", {}) for output in cell["outputs"])
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "keras_onecycle":
            assert {alias.name for alias in node.names} <= set(keras_onecycle.__all__)
    for text in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"):
        for link in (part.split(")")[0] for part in text.split("](")[1:]):
            assert (NOTEBOOKS / link).exists(), link
