"""Trainings and studies as TOML files: those that come with jostle, and what is wrong with others."""

import dataclasses

import pytest

from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import train_ensemble
from nnval.engine.models import MODELS
from nnval.engine.recipes import OF_A_STUDY, load_recipe, load_study, preset_text, recipe_names, study_names
from nnval.study import StudyConfig
from tests.command_line import jostle

PAPERS = ("meir2025", "kuehn2025", "he2016", "actcoolr", "satybaldiev")
SMALL = tuple(f"{name}-small" for name in PAPERS)


def test_what_comes_with_jostle() -> None:
    assert recipe_names() == sorted((*PAPERS, *SMALL, "digits-demo", "digits-quick"))
    assert study_names() == ["digits-demo", "digits-quick", "meir2025"]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_a_valid_training_of_a_network_that_exists(name) -> None:
    values = load_recipe(name)
    config = TrainingConfig.from_dict(values)
    assert config.model in MODELS
    assert "label_noise" in values  # whose default is not 0
    assert config.data == ("digits" if name in (*SMALL, "digits-demo", "digits-quick") else "cifar10")
    assert config.precision == "float32" or config.device == "auto"
    assert TrainingConfig.from_dict(values | {"members": 3, "seed": 8}).members == 3


@pytest.mark.parametrize("name", study_names())
def test_a_study_is_valid(name) -> None:
    assert set(StudyConfig.from_dict(load_study(name)).perturbations) >= {"full_reset", "shrink_perturb"}


def test_the_fields_that_tell_a_study_are_those_without_a_default() -> None:
    required = [field.name for field in dataclasses.fields(StudyConfig) if field.default is dataclasses.MISSING]
    assert sorted(required) == sorted((*OF_A_STUDY, "training"))


def test_what_the_papers_and_their_code_state() -> None:
    meir = TrainingConfig.from_dict(load_recipe("meir2025"))
    assert (meir.model, meir.learning_rate, meir.batch_size, meir.epochs) == ("resnet18", 0.02, 125, 200)
    assert (meir.train_size, meir.validation_from, meir.validation_size) == (None, "test", 10_000)
    assert (meir.precision, meir.augmentation, meir.initialisation) == ("float16", "none", "kaiming_fan_out")
    study = StudyConfig.from_dict(load_study("meir2025"))
    assert (study.target, study.branch_epoch, study.training.members) == (0.72, 100, 1000)
    he = TrainingConfig.from_dict(load_recipe("he2016"))
    assert (he.learning_rate, he.momentum, he.weight_decay, he.batch_size) == (0.1, 0.9, 1e-4, 128)
    steps = he.train_size // he.batch_size  # pyright: ignore[reportOptionalOperand]
    assert [epochs * steps / 1000 for epochs in (*he.milestones, he.epochs)] == pytest.approx([32, 48, 64], abs=0.2)
    ours = TrainingConfig.from_dict(load_recipe("satybaldiev"))
    assert (ours.learning_rate, ours.weight_decay, ours.batch_size, ours.epochs) == (0.1, 1e-4, 128, 200)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_recipe_trains(name, tmp_path) -> None:
    config = TrainingConfig.from_dict(load_recipe(name) | {"epochs": 2, "members": 2})
    result = train_ensemble(config, tmp_path / "run", threads=1)
    assert list(result.status) == ["horizon", "horizon"]
    first, second = result.curves["train_loss"].T
    assert (second < first).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[training]\nlr = 0.1",
            r"mine.toml: unknown field 'lr' in \[training\]; a training has data, .*learning_rate",
        ),
        ("learning_rate = 0.1", r"mine.toml has no table \[training\]: put the fields"),
        ("target = 0.9\n[training]\nseed = 1", r"mine.toml: 'target' stands outside \[training\]"),
        ("training = 3", r"mine.toml: the preset's \[training\] must be a table"),
        ("[training]\nseed = ", "mine.toml is not TOML: "),
    ],
)
def test_a_recipe_that_says_something_else(tmp_path, text, message) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(str(path))


def test_a_copy_of_a_recipe_with_changes(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(preset_text("he2016").replace('"resnet20"', '"resnet32"'))
    assert load_recipe(str(path)) == load_recipe("he2016") | {"model": "resnet32"}
    path.write_text('[training]\ntrain_size = "all"\n')
    assert load_recipe(str(path)) == {"train_size": None}


def test_what_is_no_file_of_text(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"preset 'he2017' does not exist; choose actcoolr, .* or the path of a .toml"):
        load_recipe("he2017")
    with pytest.raises(ValueError, match=r"preset '../presets/he2016' does not exist"):
        load_recipe("../presets/he2016")
    with pytest.raises(ValueError, match=r"preset '.*absent.toml' does not exist; choose actcoolr, "):
        load_recipe(str(tmp_path / "absent.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ValueError, match=r"folder.toml cannot be read: "):
        load_recipe(str(tmp_path / "folder.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"binary.toml is not text: "):
        load_recipe(str(tmp_path / "binary.toml"))


def test_a_training_is_no_study(tmp_path) -> None:
    with pytest.raises(
        ValueError, match=r"preset 'he2016' is a training without perturbations, for jostle train --preset"
    ):
        load_study("he2016")
    with pytest.raises(
        ValueError, match="preset 'he2017' does not exist; choose digits-demo, digits-quick, meir2025 or"
    ):
        load_study("he2017")
    assert load_recipe("digits-demo") == load_study("digits-demo")["training"]
    path = tmp_path / "mine.toml"
    path.write_text("[training]\n[perturbations.full_reset]\nname = 'full_reset'\n")
    assert load_study(str(path))["training"] == {}


def test_validate_says_that_a_recipe_is_no_study(tmp_path) -> None:
    words = ["--preset", "he2016", "--out", str(tmp_path / "out")]
    for arguments in (words, [*words, "--show-preset"]):
        result = jostle("validate", "perturbation", *arguments)
        assert result.exit_code == 2
        assert "is a training without perturbations, for jostle train --preset he2016" in result.stderr
    assert not (tmp_path / "out").exists()
    shown = jostle("validate", "perturbation", "--preset", "meir2025", "--show-preset")
    assert shown.stdout == preset_text("meir2025")
