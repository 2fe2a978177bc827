"""What tests in several folders share."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# NumPy's BLAS is only the yardstick here, on small matrices. With a thread per CPU it waits for CPUs that others hold:
# tests that compare with eager models took 150 s beside two busy processes, and 19 s like this. Read when NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tapes and kernels of this run alone, never the user's; processes that tests start find them there.
_CACHE = tempfile.mkdtemp(prefix="gradtape-tests-")
os.environ["GRADTAPE_CACHE_DIR"] = _CACHE
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tinyshakespeare() -> Path:
    """tinyshakespeare.txt in the folder GRADTAPE_TEST_DATA, or else in ../shared/data; skips without it."""
    folder = Path(os.environ.get("GRADTAPE_TEST_DATA") or ROOT.parent / "shared" / "data")
    path = folder / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"no {path}: set GRADTAPE_TEST_DATA to the folder that holds tinyshakespeare.txt")
    return path


@pytest.fixture(autouse=True, scope="session")
def _no_tapes_of_other_tests():
    from checked_cache import CheckedCache

    cache = CheckedCache(Path(_CACHE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradtape.compiler.default_cache", lambda: cache)
        yield


@pytest.fixture
def real_cache(monkeypatch, tmp_path) -> Path:
    """The folder of a cache of this test's own, which works as it does for users."""
    from gradtape.runtime.cache import default_cache

    monkeypatch.setattr("gradtape.compiler.default_cache", default_cache)
    monkeypatch.setenv("GRADTAPE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"
