"""Programs of which tests draw pictures, and the golden DOT of some: `python tests/pictured.py` writes tests/golden/.

Nothing is compiled to machine code: a picture needs none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import gradtape as gt
from gradtape import compiler, programs
from gradtape.finished import lookup
from gradtape.pictures import STAGES
from gradtape.pictures.dot import dot, shown

GOLDEN = Path(__file__).parent / "golden"


class NoProgram:
    """In the place of what runs."""

    def __init__(self, *args: Any) -> None: ...
    def check_guards(self, dims: dict[str, int]) -> None: ...


@contextmanager
def uncompiled() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "compile_tape", lambda tape, cache: ())
        patch.setattr(programs, "Program", NoProgram)
        patch.setattr(compiler, "default_cache", lambda: None)
        yield


def stepping(model: Any, x: Any, y: Any, loss: Any = gt.cross_entropy, **options: Any) -> gt.Compiled:
    with uncompiled():
        return gt.compile(model, x, y, loss=loss, optimizer=gt.AdamW(lr=1e-3), **options)


@cache
def mlp() -> gt.Compiled:
    return stepping(gt.models.MLP(64, 32, 10), gt.spec(("B", 64)), gt.spec(("B",), "i64"))


@cache
def cnn() -> gt.Compiled:
    return stepping(gt.models.CNN(1, 8, 10, (8, 16)), gt.spec(("B", 1, 8, 8)), gt.spec(("B",), "i64"))


@cache
def gru() -> gt.Compiled:
    return stepping(gt.models.GRU(65, 32, 2), gt.spec(("B", "T"), "i64"), gt.spec(("B", "T"), "i64"))


@cache
def gpt(depth: int = 6) -> gt.Compiled:
    model = gt.models.GPT(vocab=65, context=64, width=48, depth=depth, heads=4)
    return stepping(model, gt.spec(("B", "T"), "i64"), gt.spec(("B", "T"), "i64"))


# Made once for all tests, which only look.
MODELS: dict[str, Callable[[], gt.Compiled]] = {"mlp": mlp, "cnn": cnn, "gru": gru, "gpt": gpt}
GOLDEN_MODELS = ("mlp", "cnn", "gpt")


def golden_text(source: str) -> str:
    """DOT without the tooltips, which hold the names of kernels and the lines of sources."""
    return re.sub(r' tooltip=("(?:[^"\\]|\\.)*"|\S+?)(?=[ \]])', "", source)


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in GOLDEN_MODELS:
        step = MODELS[name]()
        for stage in STAGES:
            text = golden_text(dot(shown(step.picture(stage))).source)
            (GOLDEN / f"{name}-{stage}.dot").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
