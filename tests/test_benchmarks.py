"""The table of ``make bench``: every script is in it, and its rows come from where they were measured."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("all_benchmarks", HERE / "all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_is_run(table: ModuleType) -> None:
    scripts = {path.stem for path in HERE.glob("*.py")} - {"all", "headlines", "networks"}
    assert set(table.QUICK) == scripts
    for name in scripts:
        assert "headline(" in (HERE / f"{name}.py").read_text(encoding="utf-8"), name


def test_rows_of_all_scripts_are_gathered_and_a_failing_one_loses_nothing(
    table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "headlines.py").write_text((HERE / "headlines.py").read_text(encoding="utf-8"), encoding="utf-8")
    for name, end in (("good", ""), ("bad", "raise SystemExit(3)")):
        text = f"from headlines import headline\nheadline('{name}', 2.5, 'before', note='n')\n{end}\n"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(table, "HERE", tmp_path)
    monkeypatch.setattr(table, "QUICK", {"bad": (), "good": ()})
    monkeypatch.setattr(table, "has_cuda", lambda: False)  # would import torch
    monkeypatch.setattr(sys, "argv", ["all.py", "bad", "good", "--csv", str(tmp_path / "table.csv")])
    with pytest.raises(SystemExit, match=r"failed: bad \(exit code 3\)"):
        table.main()
    printed = capsys.readouterr().out
    assert printed.count("2.5 x  before") == 2
    lines = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# python benchmarks/all.py bad good: ")
    assert "numpy" in lines[1]
    assert lines[2:] == ["benchmark,what,baseline,ratio,note", "bad,bad,before,2.5,n", "good,good,before,2.5,n"]


def test_a_script_alone_records_nothing(monkeypatch: pytest.MonkeyPatch, table: ModuleType, tmp_path: Path) -> None:
    import headlines

    monkeypatch.delenv(headlines.FILE, raising=False)
    headlines.headline("x", 1.0, "y")
    monkeypatch.setenv(headlines.FILE, str(tmp_path / "rows"))
    headlines.headline("x", 1.0, "y")
    assert [json.loads(line)["what"] for line in (tmp_path / "rows").read_text(encoding="utf-8").splitlines()] == ["x"]
