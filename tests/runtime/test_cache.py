"""The cache as a folder of files: keys, damage, processes that meet or are killed, folders that cannot be used."""

import ast
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from gradtape.runtime import cache as cache_module
from gradtape.runtime import container, flags, ingredients, loader
from gradtape.runtime.cache import Cache, CacheWarning, check, default_cache, default_directory, most_bytes
from gradtape.runtime.ingredients import kernel_ingredients, key_of, source_digest, tape_ingredients
from gradtape.runtime.kernel import template
from layout import ROOT

WANTED = {"program": "1", "threads": "2", "CPU": "here"}
PARTS = {"program": b"text", "tape": b"\0" * 40, "empty": b""}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def stored(cache, wanted=WANTED, parts=PARTS):
    cache.put("tape", wanted, {"name": "net"}, parts)
    return cache.path("tape", wanted)


# keys -----------------------------------------------------------------------------------------------------------------
def test_an_entry_is_found_by_what_it_depends_on(cache):
    assert cache.get("tape", WANTED) == (None, "the cache is empty")
    stored(cache)
    (header, parts), why = cache.get("tape", WANTED)
    assert parts == PARTS and header["name"] == "net" and not why
    for name in WANTED:
        assert cache.get("tape", {**WANTED, name: "other"}) == (None, "no entry")
    assert cache.get("tape", {**WANTED, "more": ""})[0] is None


@pytest.fixture
def fresh():
    """The ingredients of this machine are looked up again, before and after."""
    found = (ingredients.machine_ingredients, ingredients.source_digest, loader.host)
    for function in found:
        function.cache_clear()
    yield
    for function in found:
        function.cache_clear()


def host(**changes):
    found = loader.host()._replace(**changes)
    return lambda: found


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("file format", lambda m: m.setattr(container, "VERSION", 99)),
        ("Python", lambda m: m.setattr(ingredients.sys, "version_info", (3, 99))),
        ("Numba", lambda m: m.setattr(ingredients, "installed_version", lambda name: f"{name} 99")),
        ("llvmlite", lambda m: m.setattr(ingredients, "host", host(llvmlite="99"))),
        ("LLVM", lambda m: m.setattr(ingredients, "host", host(llvm="99.0"))),
        ("NumPy", lambda m: m.setattr(np, "__version__", "99.0")),
        ("target", lambda m: m.setattr(ingredients, "host", host(triple="riscv64-unknown-linux-gnu"))),
        ("CPU", lambda m: m.setattr(ingredients, "host", host(cpu="znver5"))),
        ("CPU features", lambda m: m.setattr(ingredients, "host", host(features=("sse2",)))),
        ("flags", lambda m: m.setattr(flags, "VECTOR_BITS", 128)),
        ("flags", lambda m: m.setattr(flags, "FAST_MATH", {"reassoc"})),
    ],
)
def test_every_ingredient_of_the_machine_is_in_every_key(monkeypatch, fresh, name, change):
    kernel = template("k", "f32", "x:T*", "\n    st(x, 0, T(0))\n")
    before = tape_ingredients("text", 2), kernel_ingredients(kernel)
    ingredients.machine_ingredients.cache_clear()
    change(monkeypatch)
    after = tape_ingredients("text", 2), kernel_ingredients(kernel)
    monkeypatch.undo()
    for old, new in zip(before, after, strict=True):
        assert ingredients.differing(old, new) == [name]
        assert key_of(old) != key_of(new)


def test_program_and_threads_are_in_the_key_of_a_tape():
    one = tape_ingredients("text", 2)
    assert ingredients.differing(one, tape_ingredients("text ", 2)) == ["program"]
    assert ingredients.differing(one, tape_ingredients("text", 1)) == ["threads"]
    assert key_of(one) == key_of(dict(reversed(one.items())))


def test_name_parameters_and_source_are_in_the_key_of_a_kernel():
    keys = {
        key_of(kernel_ingredients(template(*args)))
        for args in (
            ("k", "f32", "x:T*", "\n    st(x, 0, T(0))\n"),
            ("k", "f64", "x:T*", "\n    st(x, 0, T(0))\n"),
            ("k", "f32", "x:T* n:i64", "\n    st(x, 0, T(0))\n"),
            ("k", "f32", "x:T*", "\n    st(x, 0, T(1))\n"),
            ("l", "f32", "x:T*", "\n    st(x, 0, T(0))\n"),
        )
    }
    assert len(keys) == 5


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ir/ops/elementwise.py", "source of ir"),
        ("passes/fuse.py", "source of passes"),
        ("finished/building.py", "source of passes"),
        ("planning.py", "source of passes"),
        ("runtime/kernels/gemm.py", "source of runtime"),
        ("runtime/bind.py", "source of runtime"),
        ("passes/lint/rules/zeros.py", "source of the lint"),
        ("tracer/ledger.py", "source of the lint"),
    ],
)
def test_a_source_of_ours_that_is_edited_is_named(tmp_path, fresh, file, name):
    """One character of a comment is enough: it is the file that is compared."""
    for folder in ("ir", "passes", "runtime", "evidence", "tracer", "finished"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file_of_root in ("linting.py", "planning.py"):
        shutil.copy(ROOT / file_of_root, tmp_path)
    before = {n: source_digest(patterns, tmp_path) for n, patterns in ingredients.SOURCES.items()}
    with (tmp_path / file).open("a") as edited:
        edited.write("#")
    source_digest.cache_clear()
    after = {n: source_digest(patterns, tmp_path) for n, patterns in ingredients.SOURCES.items()}
    assert [n for n in before if before[n] != after[n]] == [name]


def test_kernels_depend_on_every_file_that_compiles_them():
    seen, todo = set(), ["runtime/jit.py"]
    while todo:
        file = todo.pop()
        seen.add(file)
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                todo += [f"runtime/{n}.py" for n in names if f"runtime/{n}.py" not in seen]
    assert seen == set(ingredients.COMPILER.split())


def test_versions_are_those_of_the_distributions():
    from importlib.metadata import version

    for name in ("numba", "llvmlite", "numpy"):
        assert loader.installed_version(name) == version(name)
    assert loader.installed_version("no_such_package") == "none"


# damage ---------------------------------------------------------------------------------------------------------------
def test_every_flipped_byte_is_found():
    data = container.pack({"ingredients": WANTED}, PARTS)
    for at in range(len(data)):
        for bit in (1, 0x80):
            changed = bytearray(data)
            changed[at] ^= bit
            with pytest.raises(container.Damaged):
                container.unpack(bytes(changed))


def test_every_truncation_is_found():
    data = container.pack({"ingredients": WANTED}, PARTS)
    for length in range(len(data)):
        with pytest.raises(container.Damaged):
            container.unpack(data[:length])
    with pytest.raises(container.Damaged):
        container.unpack(data + b"\0")
    assert container.unpack(data)[1] == PARTS


def test_a_digest_that_fits_is_not_enough():
    """Files that were made on purpose: lengths that lie, headers that are none."""
    good = json.dumps({"parts": [["a", 4]]}).encode()
    wrong = [
        b"", b"\0\0", b"\xff\xff\xff\xff", len(good).to_bytes(4, "little") + good + b"abc",
        len(good).to_bytes(4, "little") + good + b"abcde", (2).to_bytes(4, "little") + b"[]",
        (2).to_bytes(4, "little") + b"{}", (3).to_bytes(4, "little") + b"\xff{}",
    ]  # fmt: skip
    for listed in ('[["a", -1]]', '[["a"]]', "[[1, 0]]", '"a"', "[" * 5000, "1" * 5000):
        header = f'{{"parts": {listed}}}'.encode()
        wrong.append(len(header).to_bytes(4, "little") + header)
    for body in wrong:
        digest = container._digest(len(body), body)
        with pytest.raises(container.Damaged):
            container.unpack(container._HEAD.pack(container.MAGIC, container.VERSION, len(body), digest) + body)


def another_version(data, version):
    return data[:8] + version.to_bytes(4, "little") + data[12:]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: data[:30], "a file of 30 bytes is no tape"),
        (lambda data: data[:-1], "and should have"),
        (lambda data: data[:-1] + b"x", "the checksum does not fit"),
        (lambda data: b"\x7fELF" + data[4:], "is no tape of gradtape"),
        (lambda data: another_version(data, 0), "an older gradtape"),
        (lambda data: another_version(data, 7), "a newer gradtape"),
        (
            lambda data: container.pack({"ingredients": {**WANTED, "program": "2"}}, PARTS),
            "the entry of something else, by program",
        ),
        (lambda data: container.pack({}, PARTS), "the entry of something else"),
    ],
)
def test_a_bad_file_is_told_and_made_again(cache, spoil, said):
    path = stored(cache)
    path.write_bytes(spoil(path.read_bytes()))
    assert check(path)
    with pytest.warns(CacheWarning, match=said):
        found, why = cache.get("tape", WANTED)
    assert found is None and said in why
    assert stored(cache) == path and cache.get("tape", WANTED)[0] is not None and not check(path)


# size -----------------------------------------------------------------------------------------------------------------
def test_what_was_used_last_stays(cache, monkeypatch):
    paths = [stored(cache, {"program": str(i)}, {"data": bytes(1000)}) for i in range(4)]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (time.time() - 100 * age, time.time() - 100 * age))
    assert cache.get("tape", {"program": "0"})[0]  # now the one used last
    monkeypatch.setenv("GRADTAPE_CACHE_SIZE", str(3 * paths[0].stat().st_size + 10))
    assert cache.trim() == 1
    assert [p.exists() for p in paths] == [True, False, True, True]
    assert [f.path for f in cache.files()] == [paths[0], paths[3], paths[2]]


def test_leftovers_of_killed_processes_go_in_time(cache):
    stored(cache)
    old, new = (cache.directory / f".{name}.tmp" for name in ("old", "new"))
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (0, 0))
    cache.trim()
    assert not old.exists() and new.exists()


@pytest.mark.parametrize(
    ("given", "size"),
    [("500", 500), ("2K", 2048), ("1.5M", 3 << 19), ("2GiB", 2 << 30), ("", 2 << 30), ("much", 2 << 30)],
)
def test_sizes_are_read(monkeypatch, given, size):
    monkeypatch.setenv("GRADTAPE_CACHE_SIZE", given)
    assert most_bytes() == size


def test_clear_removes_what_is_its_own(cache):
    stored(cache)
    mine = cache.directory / "notes.txt"
    mine.write_text("keep")
    assert cache.clear()[0] == 1 and mine.exists() and not cache.files()


# folders --------------------------------------------------------------------------------------------------------------
posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")


@posix
def test_the_folder_is_the_users_alone(cache, tmp_path):
    path = stored(cache)
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o755, 0o770, 0o702])
def test_a_folder_that_others_can_open_is_refused(cache, mode):
    path = stored(cache)
    cache.directory.chmod(mode)
    again = Cache(cache.directory)
    with pytest.warns(CacheWarning, match="others can open it") as told:
        assert again.get("tape", WANTED)[0] is None
        again.put("tape", {"program": "2"}, {}, PARTS)
        assert again.get("tape", WANTED)[0] is None
    assert len(told) == 1 and list(cache.directory.iterdir()) == [path]


@posix
def test_a_folder_of_another_user_is_refused(cache, monkeypatch):
    stored(cache)
    monkeypatch.setattr(os, "geteuid", lambda: cache.directory.stat().st_uid + 1)
    with pytest.warns(CacheWarning, match="it belongs to user"):
        assert Cache(cache.directory).get("tape", WANTED)[0] is None


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning, match="cannot make .*; going on without a cache") as told:
        for i in range(3):
            cache.put("tape", {"program": str(i)}, {}, PARTS)
            assert cache.get("tape", WANTED)[0] is None
    assert len(told) == 1


@pytest.mark.parametrize("number", ["EROFS", "EACCES", "ENOSPC"])
def test_a_disk_that_takes_nothing_is_one_warning(cache, monkeypatch, number):
    import errno

    stored(cache)

    def refuse(*args, **kwargs):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(cache_module.os, "open", refuse)
    with pytest.warns(CacheWarning, match="cannot write") as told:
        for i in range(3):
            cache.put("tape", {"program": str(i)}, {}, PARTS)
    assert len(told) == 1 and len(list(cache.directory.iterdir())) == 1


@posix
def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """The limit of a process for the size of files stands for it: the write fails in the middle."""
    code = """
import resource, signal, sys, warnings
from pathlib import Path
from gradtape.runtime.cache import Cache, CacheWarning
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
cache = Cache(Path(sys.argv[1]))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for i in range(3):
        cache.put("tape", {"program": str(i)}, {}, {"data": bytes(5000)})
print(len(told), told[0].message, [p.name for p in cache.directory.iterdir()])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c")], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 cannot write") and done.stdout.endswith("[]\n"), done.stdout


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADTAPE_CACHE_DIR", str(tmp_path / "given"))
    assert default_directory() == tmp_path / "given"
    monkeypatch.delenv("GRADTAPE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform != "win32":
        assert default_directory() == tmp_path / "xdg" / "gradtape"


def test_no_home_directory_is_one_warning(monkeypatch, tmp_path):
    monkeypatch.delenv("GRADTAPE_CACHE_DIR")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "gone"))
    monkeypatch.setattr(cache_module, "_open", {})
    with pytest.warns(CacheWarning, match="no home directory") as told:
        assert default_cache() is None and default_cache() is None
    assert len(told) == 1 and not (tmp_path / "gone").exists()


# processes ----------------------------------------------------------------------------------------------------------
MANY = """
import sys
from pathlib import Path
from gradtape.runtime.cache import Cache
cache = Cache(Path(sys.argv[1]))
mine = int(sys.argv[2])
for turn in range(30):
    for which in (0, 1 + (mine + turn) % 5):
        wanted, parts = {"program": str(which)}, {"data": bytes([which]) * 50_000}
        found, why = cache.get("tape", wanted)
        assert why in ("", "no entry", "the cache is empty"), why
        assert found is None or found[1] == parts
        cache.put("tape", wanted, {}, parts)
"""


def test_sixteen_processes_meet_in_an_empty_folder(tmp_path):
    folder = tmp_path / "cache"
    running = [subprocess.Popen([sys.executable, "-W", "error", "-c", MANY, folder, str(i)]) for i in range(16)]
    assert [p.wait(120) for p in running] == [0] * 16
    assert len(list(folder.iterdir())) == 6 and not any(check(path) for path in folder.iterdir())


WRITES = """
import os, random, signal, sys, time
from pathlib import Path
from gradtape.runtime.cache import Cache
folder, kills, random = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
data, torn = os.urandom(8_000_000), 0
folder.mkdir(mode=0o700)
for n in range(kills):
    child = os.fork()
    if child == 0:
        cache = Cache(folder)
        while True:
            for which in range(4):
                cache.put("tape", {"program": str(which)}, {}, {"data": data})
    while not any(name.startswith(f".{child}-") for name in os.listdir(folder)):
        pass  # it has not begun to write
    until = time.monotonic() + random.choice([0.0, 0.004]) * random.random()
    while time.monotonic() < until:
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for left in folder.glob(".*.tmp"):
        left.unlink()
        torn += 1
print(torn)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and sends SIGKILL")
@pytest.mark.parametrize("kills", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_writers_that_are_killed_leave_valid_files(tmp_path, kills):
    """At random moments of writing."""
    folder = tmp_path / "cache"
    done = subprocess.run([sys.executable, "-c", WRITES, folder, str(kills)], check=True, timeout=300, text=True,
                          stdout=subprocess.PIPE)  # fmt: skip
    files = [path for path in folder.iterdir() if path.suffix == ".tape"]
    assert len(files) <= 4 and not any(check(path) for path in files)
    assert int(done.stdout) > kills // 10, "hardly any was killed while it wrote"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [Cache(folder).get("tape", {"program": str(i)}) for i in range(4)]
    assert sum(entry is not None for entry, _ in found) == len(files)


# safety -------------------------------------------------------------------------------------------------------------
def test_nothing_that_reads_files_runs_what_they_say():
    """No pickle, no eval, no import by name, in any file that has to do with reading."""
    files = ["saving.py", "programs.py", "ir/tape_data.py", "ir/text.py", "ir/dims.py", *(
        path.relative_to(ROOT).as_posix() for folder in ("finished",) for path in (ROOT / folder).glob("*.py")
    ), *(f"runtime/{n}.py" for n in "container cache ingredients loader objects program bind".split())]  # fmt: skip
    for file in files:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            names = {a.name for a in node.names} if isinstance(node, (ast.Import, ast.ImportFrom)) else set()
            names |= {node.module} if isinstance(node, ast.ImportFrom) and node.module else set()
            assert not names & {"pickle", "marshal", "shelve", "dill"}, (file, names)
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "__import__", "compile"), (file, node.lineno)
                assert not called.endswith(("import_module", ".loads")) or called == "json.loads", (file, node.lineno)


def test_a_path_that_is_no_file_is_told(cache):
    stored(cache).unlink()
    Path(cache.path("tape", WANTED)).mkdir()
    with pytest.warns(CacheWarning, match="cannot read"):
        assert cache.get("tape", WANTED)[0] is None
