"""Pictures as DOT: golden ones, what `dot` says of them, names that are no names, and machines without Graphviz."""

import subprocess

import graphviz
import pytest

import gradtape as gt
from gradtape.pictures import STAGES
from gradtape.pictures.dot import DotFailed, dot, has_dot, render, shown
from pictured import GOLDEN, GOLDEN_MODELS, MODELS, golden_text, stepping

TIMES = "\N{MULTIPLICATION SIGN}"
needs_dot = pytest.mark.skipif(not has_dot(), reason="the program dot is not installed: apt-get install graphviz")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_golden(name, stage):
    text = golden_text(dot(shown(MODELS[name]().picture(stage))).source)
    assert text == (GOLDEN / f"{name}-{stage}.dot").read_text("utf-8"), "python tests/pictured.py writes them anew"


@needs_dot
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", MODELS)
def test_dot_draws_it_without_a_warning(name, stage):
    source = MODELS[name]().dot(stage).source
    done = subprocess.run(["dot", "-Tsvg"], input=source.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()
    assert done.stdout.count(b"<svg") == 1


@needs_dot
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_dot_draws_every_depth(depth):
    source = MODELS["gpt"]().dot("differentiated", depth=depth).source
    done = subprocess.run(["dot", "-Tsvg"], input=source.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()


@needs_dot
@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_forms(form):
    head = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[form]
    assert render(MODELS["mlp"]().dot().source, form).startswith(head)


def test_every_edge_has_a_say_in_the_order_and_none_closes_a_cycle():
    """dot 2.43 gives up (`trouble in init_rank`) at some other graphs."""
    from graphlib import TopologicalSorter

    for stage in STAGES:
        source = MODELS["gpt"]().dot(stage).source
        assert "constraint=false" not in source
        edges = [line.split(" [")[0].split(" -> ") for line in source.splitlines() if " -> " in line]
        below: dict[str, set[str]] = {}
        for upper, lower in edges:
            if upper.strip() != lower.strip():
                below.setdefault(lower.strip(), set()).add(upper.strip())
        assert list(TopologicalSorter(below).static_order())


def test_a_gpt_of_any_depth_is_drawn_once():
    sources = [dot(shown(MODELS["gpt"](depth).picture("traced"))).source for depth in (2, 5)]
    assert (
        "blocks.0 … 1   \N{MULTIPLICATION SIGN} 2" in sources[0]
        and "blocks.0 … 4   \N{MULTIPLICATION SIGN} 5" in sources[1]
    )
    assert sources[0].count(" -> ") == sources[1].count(" -> ")


def test_expanded_and_in_full():
    step = MODELS["gpt"]()
    once = step.dot("traced").source.count(" -> ")
    assert f"{TIMES} 6" not in step.dot("traced", repeats=False).source
    full = step.dot("traced", full=True).source
    assert full.count(" -> ") > 5 * once
    picture = step.picture("traced")
    assert full.count(" -> ") == len(picture.edges)


def test_dot_of_a_compiled_is_a_digraph():
    found = MODELS["mlp"]().dot("tape", depth=1)
    assert isinstance(found, graphviz.Digraph)
    assert str(found).startswith("digraph mlp {")


def test_before_anything_is_traced():
    step = gt.compile(gt.models.MLP(4, 2), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1))
    with pytest.raises(RuntimeError, match="nothing is traced yet"):
        step.dot()


def test_a_stage_that_is_none():
    with pytest.raises(ValueError, match="stage is one of"):
        MODELS["mlp"]().dot("optimised")


# names ----------------------------------------------------------------------------------------------------------------
HOSTILE = ('<script>alert("1")</script>', 'a"b\\', "x:y:n", "cluster_forward", "{|}", "ü & <b>")


class Strange(gt.Module):
    """A module whose parts have names that mean something in DOT, HTML or XML."""

    def __init__(self):
        for name in HOSTILE:
            setattr(self, name, gt.nn.Linear(4, 4))

    def forward(self, x):
        for name in HOSTILE:
            x = getattr(self, name)(x)
        return x


@pytest.fixture(scope="module")
def strange():
    return stepping(Strange(), gt.spec((2, 4)), gt.spec((2, 4)), loss=gt.mse_loss)


@pytest.mark.parametrize("stage", STAGES)
def test_names_are_escaped(stage, strange):
    source = dot(shown(strange.picture(stage), full=True)).source
    labels = golden_text(source)
    assert "<script" not in labels and "<b>&lt;script&gt;" in labels
    if has_dot():
        svg = render(source, "svg").decode()
        assert "<script" not in svg
        assert "&lt;script&gt;" in svg and "ü &amp; &lt;b&gt;" in svg


def test_names_that_look_alike_are_kept_apart():
    class Net(gt.Module):
        def __init__(self):
            for name in ("a b", "a:b", "a_b"):
                setattr(self, name, gt.nn.Linear(3, 3, bias=False))

        def forward(self, x):
            return getattr(self, "a b")(x) + getattr(self, "a:b")(x) + self.a_b(x)

    step = stepping(Net(), gt.spec((2, 3)), gt.spec((2, 3)), loss=gt.mse_loss)
    lines = dot(shown(step.picture(), full=True)).source.splitlines()
    assert len({line.split()[1] for line in lines if line.strip().startswith("subgraph")}) == 4  # and the loss
    assert sum("<br/>" in line and "weight" in line.split("tooltip")[0] for line in lines) == 3


# without Graphviz -----------------------------------------------------------------------------------------------------
def test_without_the_program_dot(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    source = MODELS["mlp"]().dot().source
    with pytest.raises(DotFailed, match="apt-get install graphviz"):
        render(source, "svg")
    assert render(source, "dot").decode() == source


@needs_dot
def test_dot_that_gives_up():
    with pytest.raises(DotFailed, match="syntax error"):
        render("digraph {", "svg")
