"""docs/ops.md says what the registry says, and its links and names lead somewhere."""

import importlib.util
import operator
import re
from types import ModuleType

import numpy as np
import pytest

import gradtape
from fuzz_torch import TORCH
from gradtape.ir.op import OPS
from layout import ROOT


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_ops", ROOT / "docs" / "make_ops.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(maker: ModuleType) -> str:
    return maker.page()


def test_the_page_is_up_to_date(maker: ModuleType, page: str) -> None:
    written = maker.TARGET.read_text("utf-8") if maker.TARGET.exists() else ""
    assert written == page, "docs/ops.md is stale: run python docs/make_ops.py"


def test_every_op_has_an_entry(page: str) -> None:
    entries = {part.split("\n", 1)[0]: part for part in page.split("\n### ")[1:]}
    assert set(entries) == set(OPS)
    for name, text in entries.items():
        assert OPS[name].formula.split("*")[0].split("<")[0] in text
        for field in ("types", "tested in", "derivative", "runs as"):
            assert f"- **{field}** " in text or f"- **{field}**\n" in text, f"{name} lacks {field}"
        assert "->" in text, f"{name} has no example of its types"
    assert set(re.findall(r"^\| \[(\w+)\]\(#\w+\)", page, re.MULTILINE)) == set(OPS)


def test_what_is_taken_from_elsewhere_is_there(page: str) -> None:
    """A few that could be missed: a wrapped op, an alias, a NumPy function with another name, a kernel."""
    for line in (
        "`gt.tanh`, `np.tanh`, `torch.tanh`",
        "`gt.sub`, `gt.subtract`, `np.subtract`, `torch.sub`",
        "`gt.permute`, `gt.moveaxis`, `gt.swapaxes`, `gt.transpose`",
        "- **runs as** kernel `gather`",
        "- **derivative** none, not differentiable: its result is an index",
    ):
        assert line in page, line


def test_names_of_numpy_and_gradtape_lead_somewhere(page: str) -> None:
    for library, name in set(re.findall(r"`(gt|np)\.([\w.]+)`", page)):
        assert callable(operator.attrgetter(name)(gradtape if library == "gt" else np)), name


def test_names_of_pytorch_lead_somewhere() -> None:
    torch = pytest.importorskip("torch")
    for name in TORCH.values():
        assert callable(operator.attrgetter(name.removeprefix("torch."))(torch)), name
    assert set(TORCH) <= set(OPS)
