"""step.save and gt.load: the same training from a file, without the model's Python and without Numba."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import gradtape as gt
from gradtape import saving
from gradtape.runtime import container, loader
from layout import ROOT

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 6)).astype(np.float32), RNG.integers(0, 3, 12)


class Net(gt.Module):
    """Tied weights, a frozen part, a running mean, dropout, a result that is nested."""

    def __init__(self):
        self.first = gt.nn.Linear(6, 8)
        self.again = self.first
        self.norm = gt.nn.BatchNorm1d(8)
        self.scale = gt.freeze(gt.Parameter(np.ones(8, np.float32)))
        self.head = gt.nn.Linear(8, 3)

    def forward(self, x):
        h = self.norm(self.first(x) * self.scale)
        return self.head(gt.dropout(gt.relu(h), 0.2, training=self.training))


def compiled(seed=3, lr=0.05, **options):
    gt.manual_seed(seed)
    return gt.compile(Net(), loss=gt.cross_entropy, optimizer=gt.AdamW(lr=lr), **{"threads": 1, **options})


def prepared(**options):
    step = compiled(**options)
    for entry, train, args in (("step", True, (X, Y)), ("evaluate", False, (X, Y)), ("forward", False, (X,)),
                               ("value_and_grad", True, (X, Y))):  # fmt: skip
        step.prepare(entry, train, args)
    return step


def run(step, steps=4):
    losses = [float(step(X, Y)) for _ in range(steps)]
    return losses, float(step.evaluate(X, Y)), step.forward(X), step.state_dict(), step.optimizer_state_dict()


def same(a, b):
    assert a[:2] == b[:2]
    np.testing.assert_array_equal(a[2], b[2])
    for mine, its in zip(a[3:], b[3:], strict=True):
        assert mine.keys() == its.keys()
        for key, array in mine.items():
            np.testing.assert_array_equal(its[key], array, err_msg=key)


@pytest.mark.parametrize("weights", ["values", "seed"])
def test_a_loaded_file_trains_as_what_was_saved(tmp_path, weights):
    step = prepared()
    step.save(tmp_path / "t.tape", weights=weights)
    loaded = gt.load(tmp_path / "t.tape", threads=1)
    value, grads = loaded.value_and_grad(X, Y)
    expected, theirs = step.value_and_grad(X, Y)
    assert value == expected and grads.keys() == theirs.keys()
    same(run(step), run(loaded))
    assert loaded.last == step.last and loaded.step_count == 4
    assert [(n, p.requires_grad) for n, p in loaded.named_parameters()] == [
        (n, p.requires_grad) for n, p in step.named_parameters()
    ]
    assert loaded.model.first["weight"] is loaded.model.again["weight"]


def test_training_goes_on_from_the_values(tmp_path):
    step = prepared(lr=gt.schedule.warmup_cosine(0.1, 2, 8))
    run(step, 3)
    step.save(tmp_path / "t.tape")
    loaded = gt.load(tmp_path / "t.tape", threads=2)
    same(run(step), run(loaded))
    assert loaded.last.lr == step.last.lr
    loaded.save(tmp_path / "again.tape")  # what was loaded can be saved
    same(run(step), run(gt.load(tmp_path / "again.tape", threads=1)))


def test_another_seed_is_that_of_a_new_model(tmp_path):
    prepared(seed=3).save(tmp_path / "t.tape", weights="seed")
    assert (tmp_path / "t.tape").stat().st_size < 200_000
    same(run(gt.load(tmp_path / "t.tape", seed=8, threads=1)), run(prepared(seed=8)))


def test_sizes_may_be_symbolic(tmp_path):
    gt.manual_seed(0)
    step = gt.compile(Net(), gt.spec(("B", 6)), gt.spec("B", "i64"), loss=gt.cross_entropy,
                      optimizer=gt.SGD(lr=0.1), threads=1)  # fmt: skip
    step.save(tmp_path / "t.tape")
    loaded = gt.load(tmp_path / "t.tape", threads=1)
    for n in (12, 5, 9):
        assert loaded(X[:n], Y[:n]) == step(X[:n], Y[:n])
    for stage in ("traced", "differentiated", "fused"):
        assert loaded.graph(stage) == step.graph(stage)
    assert loaded.lint().to_dict() == step.lint().to_dict()
    with pytest.raises(gt.NotFinite, match="x already had NaN"):
        loaded(np.full_like(X, np.nan), Y)


def test_results_keep_their_structure(tmp_path):
    class Two(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(np.ones(3, np.float32))

        def forward(self, x):
            return {"a": x * self.w, "b": [x.sum(), ("text", x.max())]}

    step = gt.compile(Two(), threads=1)
    expected = step.forward(np.arange(3.0, dtype=np.float32))
    step.save(tmp_path / "t.tape")
    got = gt.load(tmp_path / "t.tape", threads=1).forward(np.arange(3.0, dtype=np.float32))
    assert str(got) == str(expected)


# what a file does not hold --------------------------------------------------------------------------------------------
def refused(path, **options):
    with pytest.raises(ValueError) as caught:
        gt.load(path, **options)
    return str(caught.value)


def test_a_program_that_is_not_there_is_named(tmp_path):
    step = compiled()
    step.prepare("step", True, (X, Y))
    step.save(tmp_path / "t.tape")
    loaded = gt.load(tmp_path / "t.tape", threads=1)
    with pytest.raises(ValueError, match=r"holds no program evaluate\(f32\[12, 6\], i64\[12\]\) in eval mode") as told:
        loaded.evaluate(X, Y)
    assert "step(x: f32[12, 6], target: i64[12]) in train mode" in str(told.value)
    with pytest.raises(ValueError, match="holds no program step"):
        loaded(X[:5], Y[:5])
    with pytest.raises(TypeError, match="no Python of the model's"):
        loaded.model(X)
    gt.freeze(loaded.model.head["bias"])
    with pytest.raises(ValueError, match="cannot be changed after loading"):
        loaded(X, Y)


def test_a_callback_is_refused_with_its_line(tmp_path):
    class Calls(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(np.ones(3, np.float32))

        def forward(self, x):
            return gt.callback(np.cbrt, x * self.w, shape=(3,), dtype="f32")

    step = gt.compile(Calls(), threads=1)
    step.forward(np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"forward calls the Python function cbrt \(.*test_saving\.py:\d+\)"):
        step.save(tmp_path / "t.tape")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: gt.compile(lambda x: x * 2, X, threads=1), "only a model is saved"),
        (lambda: compiled(), "there is no program yet"),
        (lambda: gt.compile(Net(), X, threads=1, loss=lambda p, y: (p * W).sum(), optimizer=gt.SGD(lr=0.1)), "two"),
    ],
)
def test_what_has_no_place_in_a_file_is_refused(tmp_path, make, said):
    if said == "two":
        step = gt.compile(Net(), loss=lambda p, y: gt.mse(p * W, y), optimizer=gt.SGD(lr=0.1), threads=1, lint="off")
        step(X, np.ones((12, 3), np.float32))
        said = "which is no part of the model"
    else:
        step = make()
    with pytest.raises(ValueError, match=said):
        step.save(tmp_path / "t.tape")


W = gt.Parameter(np.ones(3, np.float32))


def test_a_seed_makes_only_what_the_functions_of_init_have_filled(tmp_path):
    step = prepared()
    step(X, Y)
    with pytest.raises(ValueError, match="save before the first step"):
        step.save(tmp_path / "t.tape", weights="seed")
    step = prepared()
    step.model.head.weight.data[...] *= 2.0
    with pytest.raises(ValueError, match=r"head\.weight: not what gt\.manual_seed\(3\)"):
        step.save(tmp_path / "t.tape", weights="seed")
    with pytest.raises(ValueError, match="weights is 'values' or 'seed'"):
        step.save(tmp_path / "t.tape", weights="none")


def test_learning_rates(tmp_path):
    step = prepared(lr=lambda n: 0.1 / n)
    step.save(tmp_path / "t.tape", weights="seed")
    assert "was a Python function; write gt.load(" in refused(tmp_path / "t.tape")
    loaded = gt.load(tmp_path / "t.tape", lr=lambda n: 0.1 / n, threads=1)
    same(run(step), run(loaded))
    made = [gt.schedule.constant(0.1), gt.schedule.linear(0.1, 10, warmup=2), gt.schedule.cosine(0.1, 9),
            gt.schedule.piecewise(0.1, (2, 5))]  # fmt: skip
    for schedule in made:
        again = gt.schedule.again(json.loads(json.dumps(schedule.made)))
        assert again == schedule and [again(n) for n in range(1, 12)] == [schedule(n) for n in range(1, 12)]
    for wrong in (["system", 1], ["linear", "1"], ["linear"], [], ["constant", [1]]):
        with pytest.raises(ValueError):
            gt.schedule.again(wrong)


# other machines, other versions, damage -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "t.tape"
    prepared().save(path, weights="seed")
    return path


def changed(file, tmp_path, **ingredients):
    header, parts = container.unpack(file.read_bytes())
    header["ingredients"] = {**header["ingredients"], **ingredients}
    path = tmp_path / "other.tape"
    path.write_bytes(container.pack(header, parts))
    return path


def test_code_for_another_machine_is_not_run(file, tmp_path, monkeypatch):
    features = " ".join((*loader.host().features, "avx1024"))
    assert "a CPU with avx1024, which this one has not" in refused(
        changed(file, tmp_path, **{"CPU features": features})
    )
    assert "compiled for riscv64" in refused(changed(file, tmp_path, target="riscv64"))
    said = refused(changed(file, tmp_path, **{"source of runtime": "other"}))
    assert "another version of gradtape" in said
    fewer = [f for f in loader.host().features if f != "sse2"]
    monkeypatch.setattr("gradtape.runtime.ingredients.host", lambda: loader.host()._replace(features=tuple(fewer)))
    assert "a CPU with sse2, which this one has not" in refused(file)


def test_damage_is_told(file, tmp_path):
    data = file.read_bytes()
    path = tmp_path / "bad.tape"
    for spoilt in (b"", data[:100], data[:-1], data[:-1] + bytes([data[-1] ^ 1]), data[:500] + b"\xff" + data[501:]):
        path.write_bytes(spoilt)
        assert f"{path} cannot be loaded: " in refused(path)
    with pytest.raises(FileNotFoundError):
        gt.load(tmp_path / "none.tape")
    assert "holds weights, not a seed" in refused(saved_values(tmp_path), seed=1)


def saved_values(tmp_path):
    step = compiled()
    step.prepare("step", True, (X, Y))
    step.save(tmp_path / "v.tape")
    return tmp_path / "v.tape"


def test_an_entry_of_the_cache_is_no_saved_model(real_cache):
    compiled()(X, Y)
    (entry,) = real_cache.glob("*.tape")
    assert "it holds no model: it is an entry of the cache" in refused(entry)


def test_what_a_model_says_of_itself_must_hold(file):
    header, parts = container.unpack(file.read_bytes())
    for change in (
        lambda m: m["parameters"].append("more"),
        lambda m: m["trainable"].append("more"),
        lambda m: m["shapes"]["head.weight"].__setitem__(1, [3, 9]),
        lambda m: m["members"].append(["more"]),
        lambda m: m["fillings"][0].__setitem__(0, "eval"),
        lambda m: m["fillings"][0].__setitem__(3, [1 << 40]),
        lambda m: m["zeros"][0].__setitem__(2, [1 << 50]),
        lambda m: m["programs"][0].__setitem__("train", 1),
        lambda m: m["programs"][0]["structure"].__setitem__(0, ["call", "os.system"]),
        lambda m: m.__setitem__("objects", 1),
    ):
        model = json.loads(parts["model"])
        change(model)
        with pytest.raises(saving.Damaged):
            saving.model_from({**parts, "model": json.dumps(model).encode()})
    assert header["name"] == "net"


# without Numba --------------------------------------------------------------------------------------------------------
TRAINS = """
import sys
import numpy as np
import gradtape as gt
assert gt.__file__.startswith(sys.prefix), gt.__file__
try:
    import numba
except ImportError:
    print("no numba")
step = gt.load(sys.argv[1], threads=1)
rng = np.random.default_rng(0)
x, y = rng.standard_normal((12, 6)).astype(np.float32), rng.integers(0, 3, 12)
print([float(step(x, y)).hex() for _ in range(4)], float(step.evaluate(x, y)).hex(), step.forward(x).shape)
gt.manual_seed(3)
try:
    gt.compile(gt.models.MLP(6, 4, 3), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1))(x, y)
except ImportError as error:
    print(error)
"""


def test_it_runs_where_there_is_nothing_but_numpy_llvmlite_and_blas(file, tmp_path):
    """An environment with links to these three and to this package; the model's file cannot be imported from there."""
    import llvmlite
    import scipy_openblas32

    there = tmp_path / "env"
    venv.EnvBuilder(with_pip=False, symlinks=os.name == "posix").create(there)
    (site,) = [p for p in there.rglob("site-packages") if p.is_dir()]
    for package in (np, llvmlite, scipy_openblas32):
        folder = Path(package.__file__).parent
        beside = [folder, *folder.parent.glob(f"{folder.name}.libs"), *folder.parent.glob(f"{folder.name}-*.dist-info")]
        for item in beside:
            (site / item.name).symlink_to(item)
    (site / "gradtape").symlink_to(ROOT)
    python = there / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    environment["GRADTAPE_CACHE_DIR"] = str(tmp_path / "cache")
    done = subprocess.run([python, "-c", TRAINS, file], cwd=there, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    step = prepared()
    losses = [float(step(X, Y)).hex() for _ in range(4)]
    lines = done.stdout.splitlines()
    assert lines[0] == "no numba" and lines[1] == f"{losses} {float(step.evaluate(X, Y)).hex()} (12, 3)"
    assert lines[2].startswith("compiling a program needs Numba: pip install numba")
    assert sys.prefix not in done.stdout


def test_a_loaded_model_generates(tmp_path):
    """With the keys and values of earlier ids kept, as the compiled model does."""
    gt.manual_seed(4)
    model = gt.models.GPT(vocab=11, context=8, width=16, depth=2, heads=2)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=0.05), threads=1)
    step.prepare_generation(1)
    ids = np.arange(16).reshape(2, 8) % 11
    step.prepare("step", True, (ids, ids))
    step.save(tmp_path / "t.tape", weights="seed")
    loaded = gt.load(tmp_path / "t.tape", threads=1)
    for _ in range(2):
        made = [s.generate([3, 1, 4], 4, temperature=0.7, seed=2) for s in (step, loaded)]
        np.testing.assert_array_equal(*made)
        assert made[0].shape == (7,) and step(ids, ids) == loaded(ids, ids)
    with pytest.raises(ValueError, match="holds no program decode"):
        loaded.generate([[3, 1], [4, 1]], 4)
