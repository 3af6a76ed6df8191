"""``jostle generate``: what it writes and where, what it refuses, and the header's command writes the same again."""

import ast
import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import train_ensemble
from nnval.engine.recipes import load_recipe, recipe_names
from nnval.training_script import ScriptNoise, standalone_script

Generate = Callable[..., Result]


@pytest.fixture
def generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generate:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["generate", *map(str, arguments)])


def constants(script: Path) -> dict[str, object]:
    found = {}
    for node in ast.parse(script.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def test_options_are_those_of_train(generate: Generate) -> None:
    arguments = "--model lenet --lr 0.2 --epochs 7 --schedule step --milestones 3,5 --seed 4 --target 0.9 --member 6"
    arguments += " --perturbation shrink_perturb:shrink=0.7,noise=0.3 -P 2 --threads 2 --out train.py"
    result = generate(*arguments.split())
    assert result.exit_code == 0, result.output
    found = constants(Path("train.py"))
    wanted = {"LEARNING_RATE": 0.2, "EPOCHS": 7, "MILESTONES": (3, 5), "SEED": 4, "SHRINK": 0.7, "NOISE": 0.3}
    wanted |= {"PERTURBATION_INTERVAL": 2, "TARGET": 0.9, "MEMBER": 6, "DEVICE": "auto", "THREADS": 2}
    assert {name: found[name] for name in wanted} == wanted
    assert Path("digits.csv").read_text().count("\n") == 1797
    assert "network 6 of lenet on digits, seed 4" in result.output
    assert "to train it: python train.py --out run" in result.output


def test_every_recipe_is_written_or_says_why_not(generate: Generate) -> None:
    for name in recipe_names():
        result = generate("--preset", name, "--out", f"{name}.py")
        assert result.exit_code == 0, result.output
        recipe = TrainingConfig.from_dict({"device": "auto"} | load_recipe(name))
        script = Path(f"{name}.py").read_text()
        assert constants(Path(f"{name}.py"))["BATCH_SIZE"] == recipe.batch_size
        assert f"# jostle generate --preset {name}\n" in script
        assert Path("digits.csv").exists() or recipe.data != "digits"
    Path("own.toml").write_text('[training]\nmodel = "lenet"\nlearning_rate = 0.3\n')
    assert generate("--preset", "own.toml", "--out", "own.py").exit_code == 0
    assert constants(Path("own.py"))["LEARNING_RATE"] == 0.3


def test_the_command_in_the_header_writes_the_same_bytes(generate: Generate, tmp_path: Path) -> None:
    arguments = ["--data", "cifar10", "--data-dir", "a dir'\"#", "--validation-size", "500", "--optimizer", "adam"]
    arguments += ["--betas", "0.8,0.99", "--channels-last", "--no-compile", "--noise", "full:high=0.5,decay=0.01"]
    assert generate(*arguments, "--out", "one.py").exit_code == 0
    lines = (tmp_path / "one.py").read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("# jostle generate"))
    command = [lines[begin]]
    while command[-1].endswith("\\"):
        command.append(lines[begin + len(command)])
    words = shlex.split("".join(line.removeprefix("#").removesuffix("\\") for line in command))
    assert words[:2] == ["jostle", "generate"]
    assert generate(*words[2:], "--out", "two.py").exit_code == 0
    assert (tmp_path / "two.py").read_bytes() == (tmp_path / "one.py").read_bytes()


def test_finished_run_becomes_a_script_of_one_of_its_networks(generate: Generate, tmp_path: Path) -> None:
    config = TrainingConfig(members=2, epochs=2, label_noise=0.1, hidden=(8,), execution="stacked", snapshots=(1,))
    train_ensemble(config, tmp_path / "run")
    result = generate("--run", "run", "--member", 1, "--out", "train.py")
    assert result.exit_code == 0, result.output
    assert "trained its networks stacked" in result.output
    assert "snapshots are left out" in result.output
    expected = dataclasses.replace(config, execution="loop", snapshots=(), first_member=1)
    words = ["jostle", "generate", "--run", "run", "--member", "1"]
    assert Path("train.py").read_text() == standalone_script(expected, command=words)
    assert "--lr cannot be used with --run" in generate("--run", "run", "--lr", 1, "--out", "x.py").output
    assert generate("--run", "nowhere", "--out", "x.py").exit_code == 2


def test_noise_options(generate: Generate) -> None:
    text = "full:high=0.5,low=0.01,mode=absolute,metric=gradient_norm,min_dwell=7,monotone=true,variance_high=0.6"
    assert generate("--noise", text, "--out", "train.py").exit_code == 0
    found = constants(Path("train.py"))
    assert (found["EPSILONS"], found["MIN_DWELL"], found["VARIANCE_HIGH"]) == ((0.5, 0.1, 0.01), 7, 0.6)
    assert generate("--noise", text, "--use-library", "--out", "library.py").exit_code == 0
    assert "from nnval.drop_in.adaptive_noise import AdaptiveNoise" in Path("library.py").read_text()
    assert constants(Path("library.py"))["NOISE_MODE"] == "absolute"
    expected = standalone_script(TrainingConfig(label_noise=0, device="auto"), noise=ScriptNoise("fixed"))
    assert generate("--noise", "fixed", "--out", "fixed.py").exit_code == 0
    assert Path("fixed.py").read_text().splitlines()[20:] == expected.splitlines()[20:]


def test_library_script_needs_no_file_beside_it(generate: Generate) -> None:
    result = generate("--model", "mine:net", "--use-library", "--out", "deep/er/train.py")
    assert result.exit_code == 0, result.output
    assert 'model="mine:net"' in Path("deep/er/train.py").read_text()
    assert [path.name for path in Path("deep/er").iterdir()] == ["train.py"]


def test_json(generate: Generate) -> None:
    result = generate("--json", "--out", "train.py")
    found = json.loads(result.stdout)
    assert found["command"] == "generate"
    assert found["result"]["script"] == "train.py"
    assert list(found["result"]["files"]) == ["digits.csv"]
    assert TrainingConfig.from_dict(found["parameters"]).device == "auto"


def test_files_with_other_content_stay(generate: Generate) -> None:
    assert generate("--out", "train.py").exit_code == 0
    assert generate("--out", "train.py").exit_code == 0  # the same again
    result = generate("--seed", 1, "--out", "train.py")
    assert result.exit_code == 2
    assert "train.py exists, with other content; choose another --out, or --overwrite" in result.output
    assert constants(Path("train.py"))["SEED"] == 0
    Path("digits.csv").write_text("mine")
    assert generate("--out", "other.py").exit_code == 2
    assert not Path("other.py").exists()
    assert generate("--seed", 1, "--overwrite", "--out", "train.py").exit_code == 0
    assert constants(Path("train.py"))["SEED"] == 1
    assert Path("digits.csv").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out is missing"),
        (["--out", "."], "is a directory; name the script"),
        (["--out", "digits.csv"], "must have another name"),
        (["--out", "x.py", "--model", "mine:net"], "--use-library"),
        (["--out", "x.py", "--model", "mlp\nimport os"], "must be one of"),
        (["--out", "x.py", "--data", "mnist"], "--use-library"),
        (["--out", "x.py", "--perturbation", "full_reset"], "interval"),
        (["--out", "x.py", "--noise", "loud"], "kind='loud' must be one of none, fixed"),
        (["--out", "x.py", "--noise", "full:volume=11"], "noise has no option 'volume'; its options are high"),
        (["--out", "x.py", "--noise", "full:high=1e999"], "must be"),
        (["--out", "x.py", "--noise", "full:epsilon=1"], "one by one"),
        (["--out", "x.py", "--noise", "full:mode"], "must have the form name=value"),
        (["--out", "x.py", "--momentum", "0.9", "--optimizer", "adam"], "belongs to optimizer='sgd'"),
        (["--out", "x.py", "--members", "3"], "No such option"),
        (["--out", "x.py", "--run", "y", "--preset", "meir2025"], "--preset cannot be used with --run"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_there(
    arguments: list[str], message: str, generate: Generate, tmp_path: Path
) -> None:
    result = generate(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []
