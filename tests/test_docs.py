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


# pictures -------------------------------------------------------------------------------------------------------------
def test_every_picture_is_made_by_a_command_that_is_shown() -> None:
    """`gradtape graph docs.models:<function> ... -o docs/pictures/<file>`, of functions that are there."""
    spec = importlib.util.spec_from_file_location("docs_models", ROOT / "docs" / "models.py")
    assert spec is not None and spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    page = (ROOT / "docs" / "pictures.md").read_text("utf-8")
    commands = re.findall(r"gradtape graph docs\.models:(\w+) (?:--stage (\w+) )?-o docs/pictures/(\S+)", page)
    assert commands and all(callable(getattr(models, function)) for function, _, _ in commands)
    assert all(file == f"{function}-{stage or 'traced'}.svg" for function, stage, file in commands)
    on_disk = {file.name for file in (ROOT / "docs" / "pictures").iterdir()}
    assert on_disk == {file for _, _, file in commands}
    readme = (ROOT / "README.md").read_text("utf-8")
    for text, folder in ((page, "pictures/"), (readme, "docs/pictures/")):
        for shown in re.findall(rf"\]\({folder}(\S+\.svg)\)", text):
            assert shown in on_disk, shown
            assert "<svg" in (ROOT / "docs" / "pictures" / shown).read_text("utf-8")
