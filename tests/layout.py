"""Where the repository's files lie: the root is the package, and some of its folders are not."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_INSTALLED = ("tests", "benchmarks", "docs", "build", "dist")


def package_folders() -> list[Path]:
    """The folders on disk that hold .py files of the package, the root first."""
    tops = [
        folder
        for folder in ROOT.iterdir()
        if folder.is_dir()
        and folder.name not in NOT_INSTALLED
        and not folder.name.startswith(".")
        and not folder.name.endswith(".egg-info")
        and not (folder / "pyvenv.cfg").exists()
    ]
    return [ROOT, *sorted({file.parent for top in tops for file in top.rglob("*.py")})]


def package_files() -> list[Path]:
    """The .py files of the package, absolute and sorted."""
    return sorted(file for folder in package_folders() for file in folder.glob("*.py"))
