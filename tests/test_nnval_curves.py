"""Curves and their first passages: units, directions, censoring; and what a plain file of curves gives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnval.measure.curves import Curves, read_curves
from theory.survival import Survival

LONG = "run,epoch,loss,val_acc\n0,1,2.0,0.1\n0,2,1.0,0.5\n1,1,2.0,0.2\n"


def written(tmp_path: Path, text: str, name: str = "curves.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


# ---- Files ---------------------------------------------------------------------------------------------------------


def test_long_file_with_runs_of_unequal_length(tmp_path: Path) -> None:
    curves = read_curves(written(tmp_path, LONG))
    assert (curves.metric, curves.direction, curves.unit) == ("val_acc", "up", "epoch")
    assert curves.runs == ("0", "1")
    assert curves.parents is None
    assert (curves.n, curves.horizon) == (2, 2)
    np.testing.assert_array_equal(curves.values, [[0.1, 0.5], [0.2, np.nan]])
    passages = curves.first_passages(0.5)
    assert passages.times.tolist() == [2, 1]
    assert passages.observed.tolist() == [True, False]


def test_everything_guessed_is_said(tmp_path: Path) -> None:
    assert read_curves(written(tmp_path, LONG)).assumptions == (
        "metric 'val_acc' chosen of loss, val_acc (--metric to read another)",
        "direction up because the name says acc",
    )


def test_metric_by_name_and_direction_by_its_name(tmp_path: Path) -> None:
    curves = read_curves(written(tmp_path, LONG), metric="loss")
    assert curves.direction == "down"
    assert curves.first_passages(1.0).observed.tolist() == [True, False]
    assert curves.first_passages(1.5, direction="up").observed.tolist() == [True, True]
    assert read_curves(written(tmp_path, LONG), metric="loss", direction="up").direction == "up"


def test_runs_are_sorted_as_numbers_and_named_ones_as_text(tmp_path: Path) -> None:
    numbers = read_curves(written(tmp_path, "run,epoch,a\n10,1,0.3\n9,1,0.2\n"))
    assert numbers.runs == ("9", "10")
    assert numbers.values.ravel().tolist() == [0.2, 0.3]
    names = read_curves(written(tmp_path, "run,epoch,a\nb10,1,0.3\nb9,1,0.2\na,1,0.1\n"))
    assert names.runs == ("a", "b9", "b10")


def test_zero_based_files(tmp_path: Path) -> None:
    path = written(tmp_path, "run,epoch,a\n0,0,0.1\n0,1,0.9\n")
    # The evaluation after the second epoch, whatever the file calls it.
    guessed = read_curves(path)
    assert guessed.first_passages(0.9).times.tolist() == [2]
    assert any("epochs begin at 0: read as zero-based" in note for note in guessed.assumptions)
    declared = read_curves(path, count="from_zero")
    np.testing.assert_array_equal(declared.values, guessed.values)
    assert not any("zero-based" in note for note in declared.assumptions)
    assert read_curves(path, count="untrained_first").first_passages(0.9).times.tolist() == [1]
    with pytest.raises(ValueError, match="epochs begin at 0, not at 1"):
        read_curves(path, count="from_one")
    one_based = written(tmp_path, LONG, "one_based.csv")
    with pytest.raises(ValueError, match="begin at 1, not at 0"):
        read_curves(one_based, count="from_zero")
    with pytest.raises(ValueError, match="no evaluation of the untrained network at 0"):
        read_curves(one_based, count="untrained_first")


def test_runs_that_count_differently_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "run,epoch,a\nx,0,0.1\nx,1,0.9\ny,1,0.1\ny,2,0.9\n")
    with pytest.raises(ValueError, match="run x begins at epoch 0 and run y at 1"):
        read_curves(path)
    assert read_curves(path, count="from_zero").first_passages(0.9).times.tolist() == [2, 3]


def test_options_are_checked(tmp_path: Path) -> None:
    path = written(tmp_path, LONG)
    with pytest.raises(ValueError, match="count='zero' must be one of auto, from_zero, from_one, untrained_first"):
        read_curves(path, count="zero")
    with pytest.raises(ValueError, match="direction='left' must be 'up'"):
        read_curves(path, direction="left")
    with pytest.raises(ValueError, match="source is a list"):
        read_curves([path])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="has no metric 'accuracy'; it has loss, val_acc"):
        read_curves(path, metric="accuracy")


@pytest.mark.shared
def test_published_curves_give_the_published_survival(shared_data: Path) -> None:
    curves = read_curves(shared_data / "meir2025_cifar10_resnet18" / "unperturbed.csv.gz")
    survival = Survival.of(curves.first_passages(0.72))
    assert curves.values.shape == (1000, 200)
    assert survival.values[[10, 13, 20, 100, 200]].round(3).tolist() == [1.0, 0.736, 0.455, 0.331, 0.293]
    assert curves.assumptions == ("direction up because the name says accuracy",)


@pytest.mark.shared
def test_published_curves_counted_from_zero_give_the_same_survival(shared_data: Path, tmp_path: Path) -> None:
    import pandas as pd

    table = pd.read_csv(shared_data / "meir2025_cifar10_resnet18" / "unperturbed.csv.gz")
    table["epoch"] -= 1
    assert read_curves(table).first_passages(0.72).times.min() == 11
    assert any("zero-based" in note for note in read_curves(table).assumptions)
    shifted = read_curves(table, count="untrained_first")  # the same file, misread: one epoch less
    assert shifted.first_passages(0.72).times.min() == 10


# ---- First passages ------------------------------------------------------------------------------------------------


def test_target_that_is_always_or_never_met() -> None:
    curves = Curves("acc", ("a", "b", "c"), np.array([[0.5, 0.6, 0.7], [0.5, 0.6, np.nan], [np.nan] * 3]))
    always = curves.first_passages(0.5)
    assert always.times.tolist() == [1, 1, 0]
    assert always.observed.tolist() == [True, True, False]
    never = curves.first_passages(0.9)
    assert never.times.tolist() == [3, 2, 0]
    assert never.observed.tolist() == [False, False, False]


def test_a_missing_evaluation_cannot_meet_the_target_and_is_no_end() -> None:
    curves = Curves("acc", ("a", "b"), np.array([[0.1, np.nan, 0.9, 0.2], [0.1, 0.2, np.nan, 0.3]]))
    passages = curves.first_passages(0.9)
    assert passages.times.tolist() == [3, 4]
    assert passages.observed.tolist() == [True, False]


def test_a_run_that_diverged_is_followed_and_unfinished() -> None:
    curves = Curves("loss", ("a", "b"), np.array([[2.0, np.inf, np.inf], [2.0, np.nan, np.nan]]), direction="down")
    assert curves.first_passages(1.0).times.tolist() == [3, 1]
    with pytest.raises(ValueError, match="loss of run a is inf at epoch 2, which would meet any target"):
        curves.first_passages(1.0, direction="up")


def test_percentage_as_target_of_fractions_and_the_reverse() -> None:
    fractions = Curves("acc", ("a",), np.array([[0.1, 0.5]]))
    with pytest.raises(ValueError, match="above 1 but acc is a fraction"):
        fractions.first_passages(50)
    percentages = Curves("acc", ("a",), np.array([[71.0, 73.0, -np.inf]]))
    with pytest.raises(ValueError, match="give it in percent"):
        percentages.first_passages(0.72)
    assert percentages.first_passages(72).times.tolist() == [2]


@pytest.mark.parametrize("target", [float("nan"), float("inf"), -float("inf")])
def test_target_that_is_not_finite(target: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        Curves("value", ("a",), np.array([[0.1, 5.0]]), direction="down").first_passages(target)


def test_targets_beyond_where_runs_were_stopped_are_refused() -> None:
    values = np.array([[0.1, 0.5, np.nan], [0.1, 0.2, 0.3]])
    curves = Curves("acc", ("a", "b"), values, stopped_at=0.5)
    assert curves.first_passages(0.5).times.tolist() == [2, 3]
    with pytest.raises(ValueError, match=r"target=0\.6 is beyond 0\.5, where runs were stopped"):
        curves.first_passages(0.6)
    losses = Curves("loss", ("a", "b"), values, direction="down", stopped_at=0.2)
    with pytest.raises(ValueError, match=r"target=0\.1 is beyond 0\.2"):
        losses.first_passages(0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runs": ("a",)}, "of 1 runs must have the shape"),
        ({"values": np.zeros(2)}, "must have the shape"),
        ({"values": np.zeros((2, 0))}, "must have the shape"),
        ({"parents": ("a",)}, "1 parents of 2 runs"),
        ({"direction": "left"}, "direction='left'"),
        ({"runs": ("a", "a")}, "different names"),
    ],
)
def test_curves_that_contradict_themselves(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curves(**{"metric": "acc", "runs": ("a", "b"), "values": np.zeros((2, 3)), **fields})


def test_reading_needs_no_torch_and_importing_no_pandas(tmp_path: Path) -> None:
    path = written(tmp_path, LONG)
    code = (
        "import sys; from nnval.measure.curves import read_curves; "
        "assert not {'pandas', 'torch', 'tensorboard', 'pyarrow'} & set(sys.modules); "
        f"read_curves({str(path)!r}); assert not {{'torch', 'tensorboard'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
