"""The lint's corpus: snippets of broken and of healthy code, placed into four hosts, in the same file or in a helper
module. Every program is written to a file and imported, so that lines, columns and sources are real.

    case("GT-A01", params={"w": (8, 8)}, broken='''
        h = h @ self.w
        h = gt.tensor(h.data.reshape(-1, 8))  #!
        ''', healthy='''
        h = h @ self.w
        h = h.reshape(-1, 8)
        ''', kills=("w", "upstream"))

A snippet stands inside a method with `self`. It gets an activation `h` (N, 8) and leaves one of this shape in `h`;
`np`, `gt` and `draw(*shape)` (random float32) are there. `#!` marks the line that a finding must name, `#<` the one
where the value left. `#! a, b` gives that line parameters of its own.

params     parameters of the module around: a shape (random numbers), or source text
kills      the parameters that the finding lists: names of `params`, paths below `self` (or with "/" from the top),
           "upstream" and "downstream" for
           the host's own before and after the snippet, "loss" and "optimizer" cases mostly say "all"
layers     the layers that suffice: both programs are linted with these
hosts      the hosts in which the class makes sense, of transformer, cnn, recurrent, function (USUAL); TRACED has the
           body of a gt.scan too
severity   of the finding; default: that of the rule
also       codes that the broken program may show besides
says       a text that the finding's message or fix must hold
setup      more lines of `__init__`                     |
top        what stands above, in the snippet's file     |  one text for both programs, or a pair (broken, healthy);
helper     the text of a module that it calls `helper`  |  marks may stand in any of them
loss       the body of `loss(out, y)`; out, y: (B, 3);  |
           empty: linted without a loss                 |
optimizer  an expression over `model`                   |

Cases without `broken` are traps: correct programs that look wrong.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import gradtape as gt
from gradtape.ir.op import OPS
from gradtape.passes.lint import LAYERS, RULES, Finding, Report

Text = str | tuple[str, str]
LOUD = ("error", "warning")
PLACES = ("here", "helper")


# hosts ----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Host:
    """A model with holes: a line `<name>` is replaced. `before` and `after` are its parameters around the snippet,
    `prefix` is the path of the module that holds the snippet's own."""

    name: str
    prefix: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    shape: tuple[int, ...]
    text: str


HEAD = """
import numpy as np

import gradtape as gt

RNG = np.random.default_rng(7)


def draw(*shape):
    return (0.4 * RNG.standard_normal(shape)).astype("f4")

"""

TAIL = """

def loss(out, y):
    <loss>


def optimizer_of(model):
    return <optimizer>
"""

BEFORE_THE_SNIPPET = (
    "embed.weight", "embed.bias", "layer.ln1.weight", "layer.ln1.bias", "layer.attn.in_proj_weight",
    "layer.attn.in_proj_bias", "layer.attn.out_proj.weight", "layer.attn.out_proj.bias",
)  # fmt: skip
AFTER_THE_SNIPPET = (
    "layer.ln2.weight", "layer.ln2.bias", "layer.fc.weight", "layer.fc.bias", "layer.proj.weight", "layer.proj.bias",
    "head.weight", "head.bias",
)  # fmt: skip

TRANSFORMER = Host(
    "transformer",
    "layer.",
    BEFORE_THE_SNIPPET,
    AFTER_THE_SNIPPET,
    (2, 4, 6),
    """
class Layer(gt.Module):
    def __init__(self):
        self.ln1 = gt.nn.LayerNorm(8)
        self.attn = gt.nn.MultiHeadAttention(8, 2)
        self.ln2 = gt.nn.LayerNorm(8)
        self.fc = gt.nn.Linear(8, 16)
        self.proj = gt.nn.Linear(16, 8)
        <setup>

    def forward(self, x):
        B, T, C = x.shape
        x = x + self.attn(self.ln1(x), is_causal=True)
        h = x.reshape(B * T, C)
        <snippet>
        x = h.reshape(B, T, C)
        return x + self.proj(gt.gelu(self.fc(self.ln2(x))))


class Net(gt.Module):
    def __init__(self):
        self.embed = gt.nn.Linear(6, 8)
        self.layer = Layer()
        self.head = gt.nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(self.embed(x)).mean(1))


def build():
    model = Net()
    return model, model
""",
)

CNN = Host(
    "cnn",
    "features.",
    ("features.kernel", "features.bias"),
    ("fc.weight", "fc.bias", "head.weight", "head.bias"),
    (2, 1, 6, 6),
    """
class Features(gt.Module):
    def __init__(self):
        self.kernel = gt.Parameter(draw(9, 8))
        self.bias = gt.Parameter(draw(8))
        <setup>

    def forward(self, x):
        B, _, H, W = x.shape
        shifted = [x[:, 0, i : H - 2 + i, j : W - 2 + j] for i in range(3) for j in range(3)]
        patches = gt.stack(shifted, -1)
        h = gt.relu(patches @ self.kernel + self.bias).reshape(-1, 8)
        <snippet>
        return h.reshape(B, -1, 8).mean(1)


class Net(gt.Module):
    def __init__(self):
        self.features = Features()
        self.fc = gt.nn.Linear(8, 8)
        self.head = gt.nn.Linear(8, 3)

    def forward(self, x):
        return self.head(gt.relu(self.fc(self.features(x))))


def build():
    model = Net()
    return model, model
""",
)

RECURRENT = Host(
    "recurrent",
    "cell.",
    ("cell.wx", "cell.wh", "cell.bias"),
    ("head.weight", "head.bias"),
    (3, 3, 4),
    """
class Cell(gt.Module):
    def __init__(self):
        self.wx = gt.Parameter(draw(4, 8))
        self.wh = gt.Parameter(draw(8, 8))
        self.bias = gt.Parameter(draw(8))
        <setup>

    def forward(self, x, h):
        h = gt.tanh(x @ self.wx + h @ self.wh + self.bias)
        <snippet>
        return h


class Net(gt.Module):
    def __init__(self):
        self.cell = Cell()
        self.start = gt.buffer(draw(1, 8))
        self.head = gt.nn.Linear(8, 3)

    def forward(self, x):
        h = gt.broadcast_to(self.start, (x.shape[0], 8))
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


def build():
    model = Net()
    return model, model
""",
)

FUNCTION = Host(
    "function",
    "",
    ("w_in", "b_in"),
    ("w_out", "b_out"),
    (5, 4),
    """
class Weights(gt.Module):
    def __init__(self):
        self.w_in = gt.Parameter(draw(4, 8))
        self.b_in = gt.Parameter(draw(8))
        self.w_out = gt.Parameter(draw(8, 3))
        self.b_out = gt.Parameter(draw(3))
        <setup>


def build():
    self = Weights()

    def model(x):
        h = np.tanh(x @ self.w_in + self.b_in)
        <snippet>
        return h @ self.w_out + self.b_out

    return model, self
""",
)

SCAN = Host(
    "scan",
    "cell.",
    ("cell.wx", "cell.wh", "cell.bias"),
    ("head.weight", "head.bias"),
    (3, 3, 4),
    """
class Cell(gt.Module):
    def __init__(self):
        self.wx = gt.Parameter(draw(4, 8))
        self.wh = gt.Parameter(draw(8, 8))
        self.bias = gt.Parameter(draw(8))
        <setup>

    def forward(self, h, x):
        h = gt.tanh(x @ self.wx + h @ self.wh + self.bias)
        <snippet>
        return h, None


class Net(gt.Module):
    def __init__(self):
        self.cell = Cell()
        self.start = gt.buffer(draw(1, 8))
        self.head = gt.nn.Linear(8, 3)

    def forward(self, x):
        start = gt.broadcast_to(self.start, (x.shape[0], 8))
        h, _ = gt.scan(self.cell, start, x.transpose(1, 0, 2))
        return self.head(h)


def build():
    model = Net()
    return model, model
""",
)

EVERYWHERE = (TRANSFORMER, CNN, RECURRENT, FUNCTION, SCAN)
HOSTS = {h.name: h for h in EVERYWHERE}
TRACED = tuple(HOSTS)  # for snippets that ask for no numbers: the body of a loop has none
USUAL = tuple(name for name in HOSTS if name != "scan")


# cases ----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Case:
    code: str
    broken: str | None = None
    healthy: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    kills: Sequence[str] = ()
    layers: str = "".join(LAYERS)
    hosts: Sequence[str] = USUAL
    severity: str = ""
    also: Sequence[str] = ()
    says: str = ""
    setup: Text = ""
    top: Text = ""
    helper: Text = ""
    loss: Text = "return gt.mse_loss(out, y)"
    optimizer: Text = "None"
    name: str = ""

    @property
    def wanted(self) -> str:
        """The severity that the finding must have."""
        return self.severity or RULES[self.code].severity

    def part(self, name: str, broken: bool) -> str:
        """One of the texts, for one of the two programs."""
        given = getattr(self, name)
        text = given if isinstance(given, str) else given[0 if broken else 1]
        return textwrap.dedent(text).strip("\n")


CASES: list[Case] = []


def case(code: str, **given: Any) -> Case:
    """Adds a case to the corpus. `name` tells cases of one code apart; by default they are numbered."""
    number = sum(c.code == code for c in CASES)
    given.setdefault("name", f"{code}-{number}" if number else code)
    CASES.append(Case(code, **given))
    return CASES[-1]


def load_cases() -> list[Case]:
    """All cases of the files cases_<group>.py beside this one."""
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        if path.stem not in sys.modules:
            __import__(path.stem)
    names = [c.name for c in CASES]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return CASES


# programs -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Program:
    """A case in a host. `place` says where the snippet stands: "here", or in a "helper" module; `every_layer` that all
    evidence is gathered, not only what suffices."""

    case: Case
    host: Host
    place: str
    broken: bool
    every_layer: bool = False

    def __str__(self) -> str:
        kind = ("broken" if self.broken else "healthy") + ("-deep" if self.every_layer else "")
        return f"{self.case.name}-{self.host.name}-{self.place}-{kind}"

    @property
    def stem(self) -> str:
        return "lint_" + re.sub(r"\W", "_", str(self))

    def sources(self) -> dict[str, str]:
        """The text of every file by module name: helpers first, the model last."""
        part = {n: self.case.part(n, self.broken) for n in ("setup", "top", "helper", "loss", "optimizer")}
        snippet = (self.case.broken if self.broken else self.case.healthy) or ""
        snippet = textwrap.dedent(snippet).strip("\n")
        drawn = [
            f"self.{n} = {shape if isinstance(shape, str) else f'gt.Parameter(draw{tuple(shape)})'}"
            for n, shape in self.case.params.items()
        ]
        files: dict[str, str] = {}
        imports = ""
        if part["helper"]:
            files[f"{self.stem}_helper"] = HEAD + part["helper"] + "\n"
            imports = f"import {self.stem}_helper as helper\n"
        top = part["top"]
        if self.place == "helper":
            placed = f"{self.stem}_placed"
            body = textwrap.indent(snippet, "    ")
            files[placed] = f"{HEAD}{imports}\n{top}\n\ndef placed(self, h):\n{body}\n    return h\n"
            imports += f"from {placed} import *\nimport {placed} as there\n"
            snippet, top = "h = there.placed(self, h)", ""
        text = HEAD + imports + "\n" + top + "\n" + self.host.text + TAIL
        setup = "\n".join(line for line in (*drawn, part["setup"]) if line)
        holes = {"setup": setup, "snippet": snippet, "loss": part["loss"] or "return None"}
        files[self.stem] = filled(text, holes).replace("<optimizer>", part["optimizer"])
        return files

    def run(self, folder: Path) -> Outcome:
        """Writes the files, imports them, lints the model."""
        files = self.sources()
        modules: list[ModuleType] = []
        known = set(OPS)
        try:
            for name, text in files.items():
                modules.append(imported(folder / f"{name}.py", text))
            gt.manual_seed(0)
            model, owner = modules[-1].build()
            optimizer = modules[-1].optimizer_of(owner)
            rng = np.random.default_rng(3)
            x = rng.standard_normal(self.host.shape).astype("f4")
            y = rng.standard_normal((len(x), 3)).astype("f4")
            example = (x, y) if self.case.loss else (x,)
            loss = modules[-1].loss if self.case.loss else None
            layers = LAYERS if self.every_layer else tuple(self.case.layers)
            report = gt.lint(model, *example, loss=loss, optimizer=optimizer, layers=layers)
        finally:
            for op in set(OPS) - known:  # that the program has registered
                del OPS[op]
            for name in files:
                sys.modules.pop(name, None)
        return Outcome(self, report, {str(folder / f"{n}.py"): text for n, text in files.items()})

    def expand(self, names: Sequence[str]) -> set[str]:
        """`kills` as the paths that a report lists."""
        groups = {"upstream": self.host.before, "downstream": self.host.after}
        own = list(self.case.params)
        groups["all"] = (*self.host.before, *self.host.after, *(self.host.prefix + n for n in own))
        own_path = lambda name: name[1:] if name.startswith("/") else self.host.prefix + name
        return {path for name in names for path in groups.get(name, (own_path(name),))}


def filled(text: str, holes: Mapping[str, str]) -> str:
    """`text` with each line `<name>` replaced by the lines of `holes[name]`, indented as it is."""

    def fill(match: re.Match[str]) -> str:
        return textwrap.indent(holes[match[2]], match[1]) or match[1].rstrip()

    return re.sub(rf"^( *)<({'|'.join(holes)})>$", fill, text, flags=re.MULTILINE)


def imported(path: Path, text: str) -> ModuleType:
    path.write_text(text, "utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


# outcomes -------------------------------------------------------------------------------------------------------------
@dataclass
class Outcome:
    """What the lint said about a program, and what is wrong with that."""

    program: Program
    report: Report
    files: Mapping[str, str]  # text by path

    def marks(self, mark: str) -> dict[tuple[str, int], str]:
        """(file, line) of every line with this mark, with what stands behind it."""
        return {
            (file, i): line.partition(mark)[2].partition("#")[0].strip()
            for file, text in self.files.items()
            for i, line in enumerate(text.splitlines(), 1)
            if mark in line
        }

    @cached_property
    def loud(self) -> list[Finding]:
        return [f for f in self.report.findings if f.severity in LOUD]

    @property
    def codes(self) -> list[str]:
        """What was found, for the confusion table."""
        return sorted({f.code for f in self.shown()})

    def shown(self) -> list[Finding]:
        """The findings that count: those of warning and above, and of a broken program those of its class."""
        case = self.program.case
        if not self.program.broken:
            return self.loud
        return [f for f in self.report.findings if f.code == case.code or (f in self.loud and f.code not in case.also)]

    def complaints(self) -> Iterator[str]:
        """Everything that is not as the case has it; nothing where all is right."""
        if not self.program.broken:
            yield from (f"found {f.code} at {Path(f.file).name}:{f.line}: {f.message}" for f in self.loud)
            return
        case, marks, lefts = self.program.case, self.marks("#!"), self.marks("#<")
        assert marks, f"{self.program}: no line is marked"
        for (file, line), names in marks.items():
            found = [f for f in self.shown() if (f.file, f.line, f.code) == (file, line, case.code)]
            where = f"{case.code} at {Path(file).name}:{line}"
            if not found:
                yield f"missed {where}"
            if len(found) > 1:
                yield f"{where} is told {len(found)} times: {[f.message for f in found]}"
            wanted = self.program.expand(re.split(r",\s*", names) if names else case.kills)
            for f in found:
                if set(f.parameters) != wanted:
                    yield f"{where}: concerns {sorted(f.parameters)}, not {sorted(wanted)}"
                confirmed = self.program.every_layer and case.wanted == "warning" and f.severity == "error"
                if f.severity != case.wanted and not confirmed:
                    yield f"{where}: {f.severity}, not {case.wanted}"
                if lefts and (f.escape.file, f.escape.line) not in lefts:
                    yield f"{where}: left at {f.escape}, not {sorted(lefts)}"
                if case.says and case.says not in f"{f.message} {f.why} {f.fix}":
                    yield f"{where}: does not say {case.says!r}: {f.message}; {f.fix}"
        for f in self.shown():
            if f.code != case.code or (f.file, f.line) not in marks:
                yield f"found {f.code} at {Path(f.file).name}:{f.line}: {f.message}"

    def text(self) -> str:
        """The complaints, the report and the sources, for a failing test."""
        sources = "\n\n".join(
            f"--- {file}\n" + "\n".join(f"{i:4d} {line}" for i, line in enumerate(text.splitlines(), 1))
            for file, text in self.files.items()
        )
        return "\n".join([f"{self.program}", *self.complaints(), str(self.report), sources])


def programs(cases: Sequence[Case] | None = None, every_layer: bool = False) -> list[Program]:
    """Every case in every host and place, broken and healthy."""
    return [
        Program(c, HOSTS[host], place, broken, every_layer)
        for c in (load_cases() if cases is None else cases)
        for host in c.hosts
        for place in PLACES
        for broken in (True, False)
        if (c.broken if broken else c.healthy) is not None
    ]
