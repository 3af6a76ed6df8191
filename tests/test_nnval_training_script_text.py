"""What a generated script looks like: clean and stable for ruff, nothing of a user's as code, and what is refused."""

import ast
import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nnval.engine.config import OPTIMIZERS, SCHEDULES
from nnval.engine.models import MODELS
from nnval.script_text import call, command_comment, constant, literal
from nnval.training_script import ScriptNoise, library_script, standalone_script
from tests.generated_scripts import config_of, perturbed
from theory.noise_schedule import KINDS

RULES = ["--select", "E,F,W,I,B,C4,NPY,RUF,SIM,TID252,UP", "--line-length", "120", "--target-version", "py311"]


ACTIONS: list[dict[str, Any]] = [
    {},
    *(
        perturbed(name, **options)
        for name, options in (
            ("shrink_perturb", {}),
            ("partial_reset", {"by": "random"}),
            ("full_reset", {}),
            ("warm_restart", {}),
            ("gaussian_noise", {"std": 0.1}),
        )
    ),
    *({"noise": ScriptNoise(kind)} for kind in KINDS[1:]),
]
SCHEDULE_OPTIONS = {"step": {"milestones": (1, 2)}, "sgdr": {"cycle_epochs": 2}}


def script_of(model: str, optimizer: str, schedule: str, action: dict[str, Any]) -> str:
    sizes = {"data": "cifar10", "train_size": 30, "validation_size": 10} if model == "vgg16" else {}
    fields = {name: value for name, value in action.items() if name != "noise"}
    config = config_of(
        model=model, optimizer=optimizer, schedule=schedule, **SCHEDULE_OPTIONS.get(schedule, {}), **sizes, **fields
    )
    return standalone_script(config, noise=action.get("noise"))


def assert_clean(directory: Path) -> None:
    for command in (["check", "--no-cache", *RULES], ["format", "--no-cache", "--diff", "--line-length", "120"]):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", command[0], "--isolated", *command[1:], "."],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout[:3000] + found.stderr[:500]


def test_every_pair_of_choices_compiles_and_is_as_ruff_wants_it(tmp_path: Path) -> None:
    models, optimizers, schedules = list(MODELS), list(OPTIMIZERS), list(SCHEDULES)
    assert len(models) == len(ACTIONS) == 10
    pairs = set()
    for i, j in itertools.product(range(10), range(10)):
        row = (i, (i + j) % len(optimizers), (i + 2 * j) % len(schedules), j)
        pairs |= {(a, b, row[a], row[b]) for a, b in itertools.combinations(range(4), 2)}
        text = script_of(models[row[0]], optimizers[row[1]], schedules[row[2]], ACTIONS[j])
        if i % 3 == 0:  # ruff would find errors of syntax, too
            compile(text, "script", "exec")
        (tmp_path / f"script_{i}_{j}.py").write_text(text, encoding="utf-8")
    assert len(pairs) == 10 * 3 + 10 * 5 + 10 * 10 + 3 * 5 + 3 * 10 + 5 * 10
    config = config_of(
        milestones=tuple(range(1, 60)), schedule="step", compiled=True, data="cifar100", validation_size=10
    )
    (tmp_path / "long.py").write_text(standalone_script(config))
    assert_clean(tmp_path)


@pytest.mark.slow  # every pair of choices is tested above
def test_all_choices_compile_and_are_as_ruff_wants_them(tmp_path: Path) -> None:
    for number, choice in enumerate(itertools.product(MODELS, OPTIMIZERS, SCHEDULES, ACTIONS)):
        text = script_of(*choice)
        compile(text, "script", "exec")
        (tmp_path / f"script_{number}.py").write_text(text, encoding="utf-8")
    assert_clean(tmp_path)


HOSTILE = (
    "'",
    '"',
    '"""',
    "'''\"\"\"",
    "\\",
    "a\nimport os\nos.system('x')",
    "\r\n__import__('os')",
    "{{ 7 * 7 }}{% raw %}",
    "{% include 'header.j2' %}",
    "line\u2028separator\u2029\x85\x0b\x0c",
    "# coding: utf-7",
    "%(prog)s %s {0} {x!r}",
    "\x00\x1b[31m",
    "\udcff",
    "\u202e\u2066",
    "x" * 500 + "\"'\n" * 50,
    "\U0001f600" * 90,
)


def shape_of(text: str) -> str:
    """The syntax tree without the values of its literals."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


def test_nothing_of_a_user_becomes_code(tmp_path: Path) -> None:
    def texts(value: str) -> list[str]:
        words = ["jostle", "generate", "--data-dir", value, value]
        flat = config_of(data="cifar10", validation_size=10, data_dir=value, stream=value)
        own = config_of(model=f"a:{value}", data="image_folder", data_dir=value)
        noise = ScriptNoise("full")
        return [
            standalone_script(flat, command=words),
            library_script(flat, command=words),
            library_script(own, command=words),
            library_script(flat, noise=noise, command=words),
        ]

    expected = [(shape_of(text), ast.get_docstring(ast.parse(text))) for text in texts("harmless")]
    for number, hostile in enumerate(HOSTILE):
        for kind, (text, (shape, document)) in enumerate(zip(texts(hostile), expected, strict=True)):
            tree = ast.parse(text)
            assert ast.get_docstring(tree) == document
            assert hostile in {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert shape_of(text) == shape
            assert text.isascii()
            assert not any("coding" in line for line in text.splitlines()[:2])
            (tmp_path / f"script_{number}_{kind}.py").write_text(text, encoding="utf-8")
    assert_clean(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "mine:net"}, "network of your own, whose code a script cannot hold: --use-library"),
        ({"model": "nonsense"}, "model='nonsense' must be one of mlp, lenet"),
        ({"model": "mlp\nimport os"}, "must be one of mlp, lenet"),
        ({"data": "mnist"}, "can read by itself, digits, cifar10, cifar100: --use-library"),
        ({"data": "image_folder", "data_dir": "x"}, "--use-library"),
        ({"execution": "stacked"}, "a script trains one network"),
        ({"initialisation": "zeros"}, "initialisation='zeros' must be one of"),
        ({"device": "warp"}, "device='warp' must be a device of torch"),
        ({"perturbation": {"name": "full_reset"}}, "interval=None"),
        (perturbed("nonsense"), "perturbation='nonsense' must be one of"),
        (perturbed("gaussian_noise", std="1); import os"), "std='1\\); import os' must be a number"),
        ({"model": "vgg16"}, "needs images of at least 32x32 pixels"),
        ({"train_size": 1790}, "must leave test samples"),
        ({"data_sha256": 64 * "0"}, "but found"),
    ],
)
def test_what_cannot_be_written_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        standalone_script(config_of(**fields))


def test_library_script_takes_networks_and_data_of_ones_own_and_refuses_stacks() -> None:
    text = library_script(config_of(model="mine:net", data="image_folder", data_dir="x"))
    assert '    model="mine:net",' in text.splitlines()
    for fields, message in (({"execution": "stacked"}, "one network"), ({"model": "nonsense"}, "must be one of mlp")):
        with pytest.raises(ValueError, match=message):
            library_script(config_of(**fields))
    with pytest.raises(ValueError, match="without --noise --use-library writes one"):
        library_script(config_of(model="mine:net"), noise=ScriptNoise("full"))
    with pytest.raises(ValueError, match="threads=0 must be a whole number >= 1"):
        library_script(config_of(), threads=0)
    with pytest.raises(ValueError, match="kind='loud' must be one of"):
        ScriptNoise("loud")


def test_the_same_config_gives_the_same_bytes_and_others_another_hash() -> None:
    config = config_of(model="lenet")
    assert standalone_script(config) == standalone_script(dataclasses.replace(config, members=9, execution="auto"))

    def hash_of(text: str) -> str:
        return next(line for line in text.splitlines() if line.startswith("# SHA-256 of the config:"))

    texts = [
        standalone_script(config),
        standalone_script(dataclasses.replace(config, seed=6)),
        standalone_script(config, noise=ScriptNoise("fixed")),
        standalone_script(config, noise=ScriptNoise("full")),
    ]
    assert len({hash_of(text) for text in texts}) == 4


def test_literals_constants_and_comments_are_lines_that_python_reads_back() -> None:
    assert literal(1) == "1"
    with pytest.raises(ValueError, match="inf has no literal"):
        literal(float("inf"))
    with pytest.raises(ValueError, match="has no literal"):
        literal(Path())
    long = {"text": "a b" * 100, "table": {"key" * 30: 1, "other" * 20: "x"}, "numbers": tuple(range(99))}
    tree = ast.parse(call("GIVEN", "dict", long))
    found = eval(ast.unparse(tree).partition("=")[2])
    assert found == long
    assert constant("NAME", 1, "why") == "NAME = 1  # why"
    assert constant("SEED", 10**300) == f"SEED = {10**300}"
    assert constant("NAME", "x" * 100, "w" * 30).splitlines()[0] == "# " + "w" * 30
    assert max(map(len, command_comment(["x" * 300, "y"] * 3).splitlines())) <= 120
