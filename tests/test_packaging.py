"""What is installed is what stands in the repository, once, and the tests meet no second copy of it."""

import ast
import importlib.machinery
import re
import sys
import tomllib
from pathlib import Path

import pytest

import gradtape
from layout import NOT_INSTALLED, ROOT, package_files, package_folders

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
INSTALLED = Path(gradtape.__file__).parent

# Where a distribution and what it gives to import have different names.
IMPORTED_AS = {"scipy-openblas32": "scipy_openblas32", "scikit-learn": "sklearn", "sarif-pydantic": "sarif_pydantic"}


def outside_imports(file: Path) -> set[str]:
    """The top names of the absolute imports in `file`, those of the standard library left out."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names


def declared(*extras: str) -> set[str]:
    """Import names of the dependencies, and of `extras` with the extras of gradtape that they name."""
    optional = PROJECT["project"]["optional-dependencies"]
    lines, names = [*PROJECT["project"]["dependencies"]], set()
    for extra in extras:
        lines += optional[extra]
    for line in lines:
        name, own_extras = re.findall(r"^([\w.-]+)(?:\[([\w,]+)\])?", line)[0]
        if name == "gradtape":
            names |= declared(*own_extras.split(","))
        else:
            names.add(IMPORTED_AS.get(name, name))
    return names


def test_listed_packages_are_the_folders_on_disk() -> None:
    on_disk = [".".join(["gradtape", *folder.relative_to(ROOT).parts]) for folder in package_folders()]
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(on_disk)


def test_every_package_folder_has_an_init() -> None:
    assert not [folder for folder in package_folders() if not (folder / "__init__.py").is_file()]


def test_data_files_of_the_package_are_declared() -> None:
    table = PROJECT["tool"]["setuptools"].get("package-data", {})
    for folder in package_folders()[1:]:
        name = ".".join(["gradtape", *folder.relative_to(ROOT).parts])
        # also those in folders without Python, which belong to the package around them
        inside = [f for f in folder.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")]
        own = [f for f in inside if next(p for p in f.parents if p in package_folders()) == folder]
        others = {file.relative_to(folder).as_posix() for file in own}
        assert others == set(table.get(name, [])), f"{name}: name its data files in [tool.setuptools.package-data]"


def test_installed_files_are_those_of_the_repository() -> None:
    """A leftover `build/` adds files of the past to an install; files edited since are not under test."""
    if INSTALLED.samefile(ROOT):
        pytest.skip("gradtape is a link to the repository here: there is no second set of files")
    here = {str(file.relative_to(ROOT)): file.read_bytes() for file in package_files()}
    there = {str(file.relative_to(INSTALLED)): file.read_bytes() for file in INSTALLED.rglob("*.py")}
    told = "remove build/ and install again: pip install '.[test]'"
    assert sorted(here) == sorted(there), told
    assert [name for name in here if here[name] != there[name]] == [], told
    folders = {folder.relative_to(INSTALLED).parts[0] for folder in INSTALLED.glob("*/")}
    assert not folders & set(NOT_INSTALLED)


def test_one_copy_of_the_package_can_be_imported() -> None:
    """From a folder on sys.path, or by the finder that an editable install (`pip install -e .`) puts beside it."""
    specs = [importlib.machinery.PathFinder.find_spec("gradtape", [entry]) for entry in sys.path]
    others = [finder for finder in sys.meta_path if finder is not importlib.machinery.PathFinder]
    specs += [finder.find_spec("gradtape", None) for finder in others if hasattr(finder, "find_spec")]
    found = {Path(spec.origin).resolve() for spec in specs if spec and spec.origin}
    assert found == {Path(gradtape.__file__).resolve()}


def test_one_copy_of_the_package_was_imported() -> None:
    """By now pytest has imported every collected test file: nothing of the package under another name."""
    package = {base / file.relative_to(ROOT) for base in (ROOT, INSTALLED) for file in package_files()}
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    met = {name: Path(file) for name, file in files.items() if file and Path(file) in package}
    assert "gradtape" in met
    assert [name for name in met if name.split(".")[0] != "gradtape"] == []
    assert [file for file in met.values() if not file.is_relative_to(INSTALLED)] == []


def test_tests_import_only_gradtape_helpers_and_what_is_declared() -> None:
    """No import by the clone's folder, nor of a folder in it: `python -m pytest` would find `import ir`."""
    # With an __init__.py in tests/, pytest would name test files after the clone's folder and import that.
    assert not list((ROOT / "tests").rglob("__init__.py"))
    folders = [ROOT / folder for folder in PROJECT["tool"]["pytest"]["ini_options"]["pythonpath"]]
    helpers = {file.stem for folder in folders for file in folder.glob("*.py") if not file.stem.startswith("test_")}
    allowed = {"gradtape"} | helpers | declared("test")
    wrong = {
        str(file.relative_to(ROOT)): sorted(names)
        for file in (ROOT / "tests").rglob("*.py")
        if (names := outside_imports(file) - allowed)
    }
    assert wrong == {}


def test_the_package_imports_only_what_is_declared() -> None:
    used = {name for file in package_files() for name in outside_imports(file)}
    assert used <= declared("data", "plots"), "add it to pyproject.toml"


def test_the_command_is_declared() -> None:
    assert PROJECT["project"]["scripts"] == {"gradtape": "gradtape.cli:main"}
