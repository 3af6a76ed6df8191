"""The installation: names, layers at run time, quiet imports, and lists that must not fall behind the tree."""

import ast
import configparser
import json
import os
import re
import subprocess
import sys
import sysconfig
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL_PACKAGES = ("theory", "sim", "nnval", "figures", "commands")

SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def listed(section: str, option: str) -> list[str]:
    """The entries of a setup.cfg list, written with commas or a line each."""
    return [entry.strip() for entry in re.split(r"[,\n]", SETUP[section][option]) if entry.strip()]


def package_files() -> list[Path]:
    """All files of the packages, relative to the root, without caches."""
    return [
        path.relative_to(ROOT)
        for package in TOP_LEVEL_PACKAGES
        for path in sorted((ROOT / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def python_files() -> list[Path]:
    return [path for path in package_files() if path.suffix == ".py"]


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_names(*packages: str) -> list[str]:
    """Every module of these packages, by the files of this checkout."""
    return [module_name(path) for path in python_files() if path.parts[0] in packages]


def run_away_from_checkout(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run as a user does: from another directory, so that only what is installed can be found."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(arguments, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def run_python(code: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_away_from_checkout([sys.executable, *options, "-c", code], directory)


def test_all_modules_come_from_this_checkout(tmp_path: Path) -> None:
    # The names are generic, and another distribution's `cli.py` or `figures` in the same environment wins over ours.
    code = """
import importlib.util, json
names = ("theory", "sim", "nnval", "figures", "commands", "cli")
specs = {name: importlib.util.find_spec(name) for name in names}
print(json.dumps({name: spec and spec.origin for name, spec in specs.items()}))
"""
    found = json.loads(run_python(code, tmp_path).stdout)
    expected = {name: str(ROOT / name / "__init__.py") for name in TOP_LEVEL_PACKAGES} | {"cli": str(ROOT / "cli.py")}
    assert {name: origin and os.path.realpath(origin) for name, origin in found.items()} == expected, (
        "install this checkout into a virtual environment of its own (`make test` does)"
    )


def test_theory_and_help_start_without_slow_imports(tmp_path: Path) -> None:
    code = f"""
import contextlib, importlib, io, json, sys
for name in {module_names("theory")!r}:
    importlib.import_module(name)
import cli
sys.argv = ["jostle", "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    cli.main()
slow = ("torch", "numba", "matplotlib", "scipy.stats", "pandas", "sklearn")
before = [name for name in slow if name in sys.modules]
import nnval.measure.curves  # reads anyone's training logs: pandas, but no torch
print(json.dumps([before, "torch" in sys.modules]))
"""
    process = run_python(code, tmp_path)
    assert process.returncode == 0, process.stderr
    slow_imports, curves_need_torch = json.loads(process.stdout)
    assert slow_imports == []
    assert not curves_need_torch


def test_console_script_prints_help(tmp_path: Path) -> None:
    script = Path(sysconfig.get_path("scripts")) / "jostle"
    assert script.exists(), "install this checkout into a virtual environment of its own (`make test` does)"
    process = run_away_from_checkout([str(script), "--help"], tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    for verb in ("predict", "simulate", "validate", "train", "report"):
        assert re.search(rf"^\s+{verb}\b", process.stdout, re.MULTILINE), f"no command {verb}:\n{process.stdout}"


def test_import_is_silent_and_changes_nothing(tmp_path: Path) -> None:
    code = f"""
import importlib, json, sys
import matplotlib, numpy, torch

def state():
    return {{
        "numpy errors": numpy.geterr(),
        "numpy print options": numpy.get_printoptions(),
        "numpy global generator": str(numpy.random.get_state()),
        "torch generator": torch.get_rng_state().tolist(),
        "torch dtype": str(torch.get_default_dtype()),
        "torch threads": torch.get_num_threads(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
        "matplotlib settings": str(dict(matplotlib.rcParams)),
    }}

before = state()
for name in {[*module_names(*TOP_LEVEL_PACKAGES), "cli"]!r}:
    importlib.import_module(name)
after = state()
changed = [name for name in before if before[name] != after[name]]
sys.exit(f"changed by imports: {{changed}}" if changed else 0)
"""
    process = run_python(code, tmp_path, "-W", "error")
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_every_package_is_listed() -> None:
    with_python_files = {".".join(path.parent.parts) for path in python_files()}
    assert set(listed("options", "packages")) == with_python_files
    assert listed("options", "py_modules") == ["cli"]


def test_every_package_is_a_regular_one() -> None:
    # Without __init__.py another `figures` on the path, however far back, would win.
    directories = [ROOT / name.replace(".", "/") for name in listed("options", "packages")]
    assert [str(directory) for directory in directories if not (directory / "__init__.py").exists()] == []


def test_every_data_file_is_packaged() -> None:
    def is_packaged(path: Path) -> bool:
        package = path.parts[0]
        name = path.relative_to(package).as_posix()
        return any(fnmatch(name, pattern) for pattern in listed("options.package_data", package))

    unpackaged = [str(path) for path in package_files() if path.suffix != ".py" and not is_packaged(path)]
    # The gallery is drawn by `jostle figures` and shown in the README; an installation does not need it.
    assert [path for path in unpackaged if not path.startswith("figures/gallery/")] == []
    assert all((ROOT / package / "py.typed").exists() for package in TOP_LEVEL_PACKAGES)


def test_constraints_pin_every_direct_dependency() -> None:
    dependencies = listed("options", "install_requires")
    for extra in SETUP["options.extras_require"]:
        dependencies += listed("options.extras_require", extra)
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, filter(None, lines))}
    assert [str(pin) for pin in pins.values() if not re.fullmatch(r"==[^*,]+", str(pin.specifier))] == []
    for dependency in map(Requirement, dependencies):
        pin = pins[canonicalize_name(dependency.name)]
        assert str(pin.specifier).removeprefix("==") in dependency.specifier, f"{pin} is outside {dependency}"


def test_tests_are_flat() -> None:
    # A package of tests named like one of ours would shadow it.
    assert not (ROOT / "tests" / "__init__.py").exists()
    assert [path.name for path in (ROOT / "tests").iterdir() if path.name in {*TOP_LEVEL_PACKAGES, "cli.py"}] == []


def cited_keys(docstring: str) -> list[str]:
    """The [key]s on `Reference:` lines, and on the lines below one that begin with a key themselves."""
    keys, in_reference = [], False
    for line in map(str.strip, docstring.splitlines()):
        starts = line.startswith("Reference:")
        in_reference = starts or (in_reference and (line.startswith("[") or line == "Reference:"))
        if in_reference:
            keys += re.findall(r"\[([A-Za-z][\w:+-]*)\]", line)
    return keys


def test_cited_keys_are_found_where_they_are_written() -> None:
    docstring = """Mean time.

    The interval is [low, high], see [elsewhere].

    Reference: [meir2025] arXiv 2502.04121v1, Eq. (5); [evans-majumdar2011] Eq. (3)
        [reuveni2016] Eq. (7)
    in units of [epochs]
    Reference:
        [kuehn2025]
    """
    assert cited_keys(docstring) == ["meir2025", "evans-majumdar2011", "reuveni2016", "kuehn2025"]


def test_cited_references_are_in_the_bibliography() -> None:
    bibliography = (ROOT / "theory" / "references.bib").read_text(encoding="utf-8")
    known = re.findall(r"^\s*@\w+\s*\{\s*([^,\s]+)\s*,", bibliography, re.MULTILINE)
    assert len(known) == len(set(known)), "a key occurs twice"
    cited = {}
    for path in [Path("cli.py"), *python_files()]:
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                cited |= dict.fromkeys(cited_keys(ast.get_docstring(node) or ""), str(path))
    assert cited, "no docstring has a line `Reference: [key] ...`"
    assert {key: place for key, place in cited.items() if key not in known} == {}


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "Makefile", ".ci/run"])
def test_a_reader_finds(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_ci_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_citation_names_the_released_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE).group(1) == SETUP["metadata"]["version"]
