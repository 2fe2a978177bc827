"""docs/ops.md says what the registry says, docs/lint.md what the catalogue and the rules say; their links and names
lead somewhere."""

import ast
import importlib.util
import operator
import re
from types import ModuleType

import numpy as np
import pytest

import gradtape
from fuzz_torch import TORCH
from gradtape.ir.op import OPS
from gradtape.passes.lint import RULES
from gradtape.passes.lint.catalogue import BY_CODE, CLASSES, GROUPS, VERDICTS
from layout import ROOT


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return loaded("make_ops")


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


# the lint's page ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lint_page() -> str:
    maker = loaded("make_lint")
    written = maker.TARGET.read_text("utf-8") if maker.TARGET.exists() else ""
    assert written == maker.page(), "docs/lint.md is stale: run python docs/make_lint.py"
    return written


def test_every_rule_has_its_page(lint_page: str) -> None:
    pages = {part.split(" ", 1)[0]: part for part in lint_page.split("\n### ")[1:]}
    assert set(pages) == set(RULES)
    for code, text in pages.items():
        plain = re.sub(r"\s|```(python)?|\\", "", text)
        assert re.sub(r"\s|\\", "", RULES[code].page) in plain, f"{code} is not what gradtape explain prints"
    titles = re.findall(r"^### (.*)$", lint_page, re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", t.lower().replace(" ", "-")) for t in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", lint_page)) <= anchors


COUNTS = {"A": 9, "B": 9, "C": 10, "D": 7, "E": 5, "F": 7, "G": 5, "H": 3, "I": 5}


def test_every_class_has_one_verdict(lint_page: str) -> None:
    assert {g: sum(c.code[0] == g for c in CLASSES) for g in GROUPS} == COUNTS and len(BY_CODE) == len(CLASSES) == 60
    rows = re.findall(r"^\| ([A-I]\d\d) \| [^|]+ \| (\w+) \| .+ \|$", lint_page, re.MULTILINE)
    assert rows == [(c.code, c.verdict) for c in CLASSES] and {v for _, v in rows} == set(VERDICTS)
    assert {c.rule for c in CLASSES} >= set(RULES)


def test_a_detected_class_has_a_rule_and_broken_programs() -> None:
    from corpus import load_cases

    planted = {c.code for c in load_cases() if c.broken is not None}
    for c in CLASSES:
        if c.verdict == "detected":
            assert c.rule in RULES and set(RULES[c.rule].layer) != {"R"}, f"{c.code} has no rule"
            assert c.rule in planted, f"{c.code} has no broken program in tests/lint/cases_*.py"
        else:
            assert c.note and c.proofs, f"{c.code} says nothing of what prevents it"


def test_the_proofs_are_tests() -> None:
    for c in CLASSES:
        for proof in c.proofs:
            file, _, name = proof.partition("::")
            tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
            functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
            assert name.startswith("test_") and name in functions, f"{c.code}: there is no test {proof}"


# pictures -------------------------------------------------------------------------------------------------------------
def test_every_picture_is_made_by_a_command_that_is_shown() -> None:
    """`gradtape graph docs.models:<function> ... -o docs/pictures/<file>`, of functions that are there."""
    models = loaded("models")
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
