"""A start from the cache, the whole way: hits and misses, lines that stay right, and the same numbers."""

import importlib.util
import linecache
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import gradtape as gt
from gradtape.runtime import ingredients, loader
from gradtape.runtime.cache import Cache, CacheWarning, check, default_cache


@pytest.fixture
def folder(real_cache):
    return real_cache


MODEL = """\
import numpy as np
import gradtape as gt


class Net(gt.Module):
    def __init__(self):
        self.table = gt.Parameter(np.random.default_rng(0).standard_normal((11, 8)))
        self.head = gt.nn.Linear(8, 4)

    def forward(self, ids):
        h = gt.dropout(np.tanh(self.table[ids]), 0.3, training=self.training)
        return self.head(h)
"""
IDS, TARGET = np.arange(6) % 5, np.arange(6) % 4


def net(path, text=MODEL, name="Net"):
    """The class `name` of a file with this text."""
    path.write_text(text)
    linecache.checkcache()
    spec = importlib.util.spec_from_file_location("model_of_a_test", path)
    module = importlib.util.module_from_spec(spec)
    exec(compile(text, str(path), "exec"), module.__dict__)
    return getattr(module, name)


def trained(model, steps=4, **options):
    """(losses, explanation, compiled) of a few steps of a model from seed 0."""
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=0.05), **{"threads": 1, **options})
    losses = [float(step(IDS, TARGET)).hex() for _ in range(steps)]
    return losses, step.explain(), step


def seeded(path, text=MODEL):
    gt.manual_seed(0)
    return net(path, text)()


def test_the_second_start_is_a_hit_and_trains_alike(folder, tmp_path):
    first, told, one = trained(seeded(tmp_path / "m.py"))
    second, again, two = trained(seeded(tmp_path / "m.py"))
    fresh, never, three = trained(seeded(tmp_path / "m.py"), cache=False)
    assert (
        told.startswith("miss: the cache is empty")
        and again.startswith("hit: ")
        and never.startswith("miss: it was not looked for (cache=False")
    )
    assert first == second == fresh
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(two.state_dict()[name], array)
        np.testing.assert_array_equal(three.state_dict()[name], array)
    assert one.optimizer_state_dict().keys() == two.optimizer_state_dict().keys()
    for stage in ("traced", "differentiated", "fused", "tape"):
        assert str(two.graph(stage)) == str(one.graph(stage))
    assert two.lint().to_dict() == one.lint().to_dict()


def test_all_entries_are_kept(folder, tmp_path):
    results = []
    for _ in range(2):
        _, _, step = trained(seeded(tmp_path / "m.py"), steps=1)
        value, grads = step.value_and_grad(IDS, TARGET)
        results.append((value, grads["table"], step.evaluate(IDS, TARGET), step.forward(IDS)))
        assert step.explain().startswith("hit" if len(results) == 2 else "miss")
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(list(folder.glob("*.tape"))) == 4


def test_sizes_that_change_are_found_too(folder, tmp_path):
    for turn in range(2):
        step = gt.compile(seeded(tmp_path / "m.py"), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1), threads=1)
        for n in (6, 9, 12):
            step(np.arange(n) % 5, np.arange(n) % 4)
            assert step.explain().startswith("hit") is (turn == 1)


# misses -------------------------------------------------------------------------------------------------------------
def test_what_the_model_computes_is_named(folder, tmp_path):
    trained(seeded(tmp_path / "m.py"))
    _, told, _ = trained(seeded(tmp_path / "m.py", MODEL.replace("np.tanh", "gt.sigmoid")))
    assert told.startswith("miss: no entry") and "which differs in program\n" in told


def test_an_option_of_the_optimizer_is_part_of_the_program_and_its_rate_is_not(folder, tmp_path):
    told = []
    for optimizer in (gt.AdamW(lr=0.1), gt.AdamW(lr=0.2), gt.AdamW(lr=gt.schedule.cosine(0.1, 10)),
                      gt.AdamW(lr=0.1, betas=(0.8, 0.999)), gt.clip_by_global_norm(gt.AdamW(lr=0.1), 1.0)):  # fmt: skip
        step = gt.compile(seeded(tmp_path / "m.py"), loss=gt.cross_entropy, optimizer=optimizer, threads=1)
        step(IDS, TARGET)
        told.append(step.explain()[:4])
    assert told == ["miss", "hit:", "hit:", "miss", "miss"]


def test_what_is_frozen_is_part_of_the_program(folder, tmp_path):
    trained(seeded(tmp_path / "m.py"))
    model = seeded(tmp_path / "m.py")
    gt.freeze(model.head)
    assert "differs in program\n" in trained(model)[1]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("threads", None),
        ("CPU features", lambda m, here: m.setattr(ingredients, "host", lambda: here._replace(features=("sse2",)))),
        ("LLVM", lambda m, here: m.setattr(ingredients, "host", lambda: here._replace(llvm="99.0"))),
        ("Numba", lambda m, here: m.setattr(ingredients, "installed_version", lambda name: "99")),
        ("flags", lambda m, here: m.setattr(ingredients, "flags_text", lambda: "O0")),
        ("source of passes", lambda m, here: m.setitem(ingredients.SOURCES, "source of passes", "ir")),
    ],
)  # fmt: skip
def test_another_ingredient_is_a_miss_that_names_it(folder, tmp_path, monkeypatch, name, change):
    losses, _, _ = trained(seeded(tmp_path / "m.py"))
    ingredients.machine_ingredients.cache_clear()
    if change is not None:
        change(monkeypatch, loader.host())
    again, told, _ = trained(seeded(tmp_path / "m.py"), threads=2 if change is None else 1)
    monkeypatch.undo()
    ingredients.machine_ingredients.cache_clear()
    assert told.startswith("miss") and f"which differs in {name}\n" in told and again == losses


def test_code_for_a_wider_cpu_is_not_even_looked_at(folder, tmp_path, monkeypatch):
    """Entries of a CPU with AVX-512, in the folder of one without: neither tape nor kernel is taken."""
    real = loader.host()
    wide, narrow = (*real.features, "avx512f"), tuple(f for f in real.features if not f.startswith("avx512"))
    for features in (wide, narrow):
        monkeypatch.setattr(ingredients, "host", lambda features=features: real._replace(features=features))
        ingredients.machine_ingredients.cache_clear()
        monkeypatch.setattr("gradtape.runtime.objects._known", {})
        _, told, _ = trained(seeded(tmp_path / "m.py"), steps=1)
        assert told.startswith("miss")
    monkeypatch.undo()
    ingredients.machine_ingredients.cache_clear()
    headers = [file.ingredients for file in Cache(folder).files()]
    assert sum("avx512f" in h["CPU features"].split() for h in headers) == len(headers) / 2


# damage -------------------------------------------------------------------------------------------------------------
def spoilt(data, way):
    size = len(data)
    if way < 12:
        changed = bytearray(data)
        changed[(size - 1) * way // 11] ^= 1 << way % 8
        return bytes(changed)
    if way < 18:
        return data[: size * (way - 12) // 6]
    return {18: data + b"\0", 19: another(data, 0), 20: another(data, 2), 21: b"#!/bin/sh\n" * 40}[way]


def another(data, version):
    return data[:8] + version.to_bytes(4, "little") + data[12:]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The losses of the model, and the files of a cache that holds it and another one."""
    base = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADTAPE_CACHE_DIR", str(base / "cache"))
        patch.setattr("gradtape.compiler.default_cache", default_cache)
        losses, _, _ = trained(seeded(base / "m.py"))
        (tape,) = (base / "cache").glob("*.tape")
        own = tape.read_bytes()
        trained(seeded(base / "m.py", MODEL.replace("np.tanh", "gt.relu")))
        (other,) = (p for p in (base / "cache").glob("*.tape") if p != tape)
    return losses, base / "m.py", tape.name, own, other.read_bytes()


@pytest.mark.parametrize("way", range(23))
def test_a_bad_entry_is_a_reported_miss_and_is_made_again(folder, reference, way):
    losses, source, name, own, other = reference
    folder.mkdir(mode=0o700)
    (folder / name).write_bytes(other if way == 22 else spoilt(own, way))
    with pytest.warns(CacheWarning, match="is not used: .*; it is made again"):
        again, told, _ = trained(seeded(source))
    assert again == losses and told.startswith("miss: the entry cannot be used")
    assert (folder / name).read_bytes() == own and not check(folder / name)
    assert trained(seeded(source))[1].startswith("hit")


@pytest.mark.parametrize("make", [lambda f: f.mkdir(mode=0o755), lambda f: f.write_text("a file")])
def test_a_folder_that_cannot_be_used_is_one_warning_and_training_goes_on(folder, reference, make):
    losses, source, *_ = reference
    make(folder)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            assert trained(seeded(source))[0] == losses
    assert [w.category for w in told] == [CacheWarning]


# lines --------------------------------------------------------------------------------------------------------------
MOVED = MODEL.replace("    def forward", "    # a comment\n\n    # of three lines\n    def forward")


def test_a_comment_is_no_miss_and_lines_stay_right(folder, tmp_path):
    path = tmp_path / "m.py"
    trained(seeded(path))
    _, told, step = trained(seeded(path, MOVED), steps=1)
    assert told.startswith("hit")
    line = 1 + MOVED.splitlines().index("        h = gt.dropout(np.tanh(self.table[ids]), 0.3, training=self.training)")
    with pytest.raises(gt.IndexOutOfRange, match=rf"m\.py:{line}"):
        step(np.full(6, 11), TARGET)
    found = {i.location.line for i in step.graph("tape").instructions() if i.location and i.location.file == str(path)}
    assert line in found and line + 1 in found and line - 3 not in found


STEPPED = """\
import numpy as np
import gradtape as gt


class Net(gt.Module):
    def __init__(self):
        self.table = gt.nn.Embedding(11, 8)
        self.unused = gt.Parameter(np.ones(3, np.float32))
        self.head = gt.nn.Linear(8, 4)

    def forward(self, ids):
        return self.head(np.tanh(self.table(ids)))
"""


def test_the_stored_verdict_warns_at_the_lines_of_today(folder, tmp_path, monkeypatch):
    path = tmp_path / "m.py"

    def told(text):
        model = seeded(path, text)
        with pytest.warns(gt.LintWarning) as caught:
            step = trained(model, steps=1, lint="warn")[2]
        assert len(caught) == 1 and caught[0].filename == __file__
        return step, [(f.code, f.line) for f in step.lint().findings if f.parameters == ("unused",)]

    _, before = told(STEPPED)
    monkeypatch.setattr("gradtape.linting.examine", None)  # from now on only what is stored
    moved = STEPPED.replace("class Net", "# moved\n# by three\n# lines\nclass Net")
    again, after = told(moved)
    assert again.explain().startswith("hit") and before and [(c, n + 3) for c, n in before] == after
    assert f"m.py:{after[0][1]}" in str(again.lint().parameters)


def test_a_stored_error_refuses_the_program(folder, tmp_path, monkeypatch):
    text = STEPPED.replace("np.tanh(self.table(ids))", "gt.round(self.table(ids))")
    with pytest.warns(gt.LintWarning):
        trained(seeded(tmp_path / "m.py", text), steps=1, lint="warn")
    monkeypatch.setattr("gradtape.linting.examine", None)
    with pytest.raises(gt.LintError, match=r"m\.py:12"):
        trained(seeded(tmp_path / "m.py", text))


def test_a_comment_that_allows_a_finding_is_seen(folder, tmp_path):
    path = tmp_path / "m.py"
    with pytest.warns(gt.LintWarning):
        code = trained(seeded(path, STEPPED), steps=1, lint="warn")[2].lint().findings[0].code
    line = "self.unused = gt.Parameter(np.ones(3, np.float32))"
    allowed = STEPPED.replace(line, f"{line}  # gradtape: allow({code})")
    _, told, step = trained(seeded(path, allowed), steps=1, lint="warn")
    assert told.startswith("hit") and not [f for f in step.lint().findings if f.code == code]
    with pytest.warns(gt.LintWarning):
        trained(seeded(path, STEPPED), steps=1, lint="warn")


def test_a_verdict_does_not_outlive_what_it_was_about(folder, tmp_path):
    """The same program, but now the weights are zero: nothing but the arrays has changed."""
    path = tmp_path / "m.py"
    text = STEPPED.replace("        self.unused = gt.Parameter(np.ones(3, np.float32))\n", "")
    assert trained(seeded(path, text), steps=1)[2].lint().ok
    model = seeded(path, text)
    model.table.weight.data[...] = 0.0
    model.head.weight.data[...] = 0.0
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=0.05), threads=1, lint="off")
    step(IDS, TARGET)
    assert step.explain().startswith("hit")
    with pytest.raises(gt.LintError):
        trained(model, steps=1)


def test_a_finding_that_names_another_line_is_asked_again(folder, tmp_path):
    """The bias before a batch norm is told with the norm's line, which no landmark moves."""
    text = STEPPED.replace("        self.unused = gt.Parameter(np.ones(3, np.float32))\n", "")
    text = text.replace("self.head(np.tanh(self.table(ids)))", "self.norm(self.head(self.table(ids)))")
    text = text.replace("gt.nn.Linear(8, 4)", "gt.nn.Linear(8, 4)\n        self.norm = gt.nn.BatchNorm1d(4)")
    said = []
    for source in (text, text.replace("class Net", "# moved\nclass Net")):
        _, told, step = trained(seeded(tmp_path / "m.py", source), steps=1)
        said.append([(f.code, f.line, f.why) for f in step.lint().findings])
    assert told.startswith("hit") and said[0] and len(said[1]) == len(said[0])
    for (code, line, why), (again, moved, later) in zip(*said, strict=True):
        assert (code, line + 1) == (again, moved) and f"m.py:{line}" in why and f"m.py:{moved}" in later


def test_another_seed_is_a_hit_and_asks_the_lint_nothing(folder, tmp_path, monkeypatch):
    path = tmp_path / "m.py"
    text = STEPPED.replace("        self.unused = gt.Parameter(np.ones(3, np.float32))\n", "")
    trained(seeded(path, text))
    monkeypatch.setattr("gradtape.linting.examine", None)
    gt.manual_seed(5)
    assert trained(net(path, text)())[1].startswith("hit")


# callbacks ----------------------------------------------------------------------------------------------------------
def test_a_callback_of_a_hit_is_the_function_of_today(folder):
    """Its name alone is in the text of the program; two of one name are told apart by where they stand."""

    def run(first, second):
        def program(x):
            named = [gt.callback(f, x, shape=(3,), dtype="f32") for f in (first, second)]
            return named[0] - named[1]

        for f in (first, second):
            f.__name__ = "f"
        compiled = gt.compile(program, threads=1)
        return compiled(np.ones(3, np.float32)).tolist(), compiled.explain()[:4]

    assert run(lambda x: x * 5, lambda x: x) == ([4.0] * 3, "miss")
    assert run(lambda x: x * 7, lambda x: x + 1) == ([5.0] * 3, "hit:")


# processes ------------------------------------------------------------------------------------------------------------
SCRIPT = """
import sys
import numpy as np
import gradtape as gt
width = int(sys.argv[1])
gt.manual_seed(0)
model = gt.models.MLP(6, width, 3)
step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=0.01), threads=2)
rng = np.random.default_rng(0)
x, y = rng.standard_normal((8, 6)).astype("f4"), rng.integers(0, 3, 8)
losses = [float(step(x, y)).hex() for _ in range(3)]
print(losses, step.explain()[:3], "numba" in sys.modules, "gradtape.passes.lint" in sys.modules)
"""


def start(folder, *args, **options):
    environment = {**os.environ, "GRADTAPE_CACHE_DIR": str(folder)}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", SCRIPT, *map(str, args)], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # fmt: skip


def outcome(process):
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out.strip()


def test_another_process_needs_neither_numba_nor_lint(folder):
    first = outcome(start(folder, 16))
    second = outcome(start(folder, 16))
    assert first.endswith("mis True True") and second.endswith("hit False False")
    assert first.split("]")[0] == second.split("]")[0]


@pytest.mark.slow
def test_sixteen_processes_start_at_once(folder):
    running = [start(folder, 16 if i % 2 else 8 + 8 * (i % 3)) for i in range(16)]
    losses = [outcome(process).split("]")[0] for process in running]
    assert len(set(losses)) == 3
    assert not [p for p in folder.iterdir() if p.suffix == ".tmp" or check(p)]
    assert outcome(start(folder, 16)).endswith("hit False False")
