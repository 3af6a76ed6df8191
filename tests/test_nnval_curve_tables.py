"""DataFrames as curves: layouts, names, steps, gaps, duplicates, precision, parents, and what is said about each."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnval.measure.curve_columns import direction_of
from nnval.measure.curve_numbers import shortest_decimals
from nnval.measure.curves import Curves, early_stops, read_curves

NAN = np.nan


def said(curves: Curves, words: str) -> bool:
    return any(words in note for note in curves.assumptions)


# ---- Layouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["run", "run_id", "Run ID", "seed", "trial", "member", "name"])
@pytest.mark.parametrize("epoch", ["epoch", "Epoch", "epochs", "step", "global_step", "trainer/global_step", "_step"])
def test_usual_names_of_runs_and_epochs(run: str, epoch: str) -> None:
    table = pd.DataFrame({epoch: [1, 2, 1, 2], "val_acc": [0.1, 0.2, 0.3, 0.4], run: ["b", "b", "a", "a"]})
    curves = read_curves(table)
    assert curves.runs == ("a", "b")
    np.testing.assert_array_equal(curves.values, [[0.3, 0.4], [0.1, 0.2]])


def test_a_column_per_run_keeps_their_order() -> None:
    curves = read_curves(pd.DataFrame({"epoch": [1, 2], "second": [0.1, 0.3], "first": [0.2, NAN]}))
    assert curves.runs == ("second", "first")
    assert (curves.metric, curves.direction) == ("value", "up")
    np.testing.assert_array_equal(curves.values, [[0.1, 0.3], [0.2, NAN]])
    assert said(curves, "direction up because the name 'value' does not say")


def test_metric_of_a_wide_table_is_refused() -> None:
    with pytest.raises(ValueError, match="leave out --metric"):
        read_curves(pd.DataFrame({"epoch": [1], "first": [0.1], "second": [0.2]}), metric="accuracy")


def test_log_of_a_single_run() -> None:
    """Lightning's CSVLogger: a row per logged thing, cells of the others empty, epochs from 0."""
    table = pd.DataFrame(
        {
            "epoch": [0, 0, 0, 1, 1, 1],
            "step": [49, 99, 99, 149, 199, 199],
            "train_loss": [2.0, 1.5, NAN, 1.4, 1.3, NAN],
            "val_acc": [NAN, NAN, 0.5, NAN, NAN, 0.7],
        }
    )
    curves = read_curves(table)
    assert (curves.runs, curves.metric) == (("run",), "val_acc")
    assert curves.values.tolist() == [[0.5, 0.7]]
    assert said(curves, "read as one run")
    assert said(curves, "epochs begin at 0")
    with pytest.raises(ValueError, match=r"two values at epoch 0: 2 and 1\.5"):
        read_curves(table, metric="train_loss")
    steps = read_curves(table.drop(columns="epoch"), metric="val_acc")
    assert (steps.unit, steps.values.tolist()) == ("100 steps", [[0.5, 0.7]])
    assert said(steps, "evaluations at steps 99, 199, ...: steps count from 0")


def test_runs_named_like_metrics_are_refused_unless_numbered_as_runs() -> None:
    with pytest.raises(ValueError, match="may be runs of one metric or metrics of one run"):
        read_curves(pd.DataFrame({"epoch": [1], "acc_0": [0.1], "acc_1": [0.2]}))
    assert read_curves(pd.DataFrame({"epoch": [1], "acc_0": [0.1], "acc_1": [0.2]}), metric="acc_1").runs == ("run",)
    seeds = read_curves(pd.DataFrame({"epoch": [1], "acc_seed0": [0.1], "acc_seed1": [0.2]}))
    assert seeds.runs == ("acc_seed0", "acc_seed1")


def test_chart_exported_from_weights_and_biases() -> None:
    table = pd.DataFrame({"Step": [0, 1, 2]})
    for run, values in (("warm-sun - 7", [0.1, 0.2, 0.3]), ("b", [0.4, NAN, NAN])):
        table[f"{run} - _step"] = [0, 1, 2]
        for suffix in ("", "__MIN", "__MAX"):
            table[f"{run} - val_acc{suffix}"] = values
    curves = read_curves(table)
    assert (curves.metric, curves.runs) == ("val_acc", ("warm-sun - 7", "b"))
    np.testing.assert_array_equal(curves.values, [[0.1, 0.2, 0.3], [0.4, NAN, NAN]])
    assert curves.unit == "step"
    assert said(curves, "steps begin at 0: read as zero-based")


def test_index_levels_named_like_columns() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["seed", "epoch"])
    table = pd.DataFrame({"acc": [0.1, 0.2, 0.3, 0.4]}, index=index)
    assert read_curves(table).values.tolist() == [[0.1, 0.2], [0.3, 0.4]]
    assert list(table.columns) == ["acc"], "the user's table is not changed"
    assert read_curves(pd.DataFrame({0: [0.1], 1: [0.2]}, index=pd.Index([1], name="epoch"))).runs == ("0", "1")


@pytest.mark.parametrize(
    ("columns", "metric", "message"),
    [
        ({"run": [0], "acc": [0.1]}, None, "no column 'epoch'"),
        ({"run": [0], "epoch": [1]}, None, "has the metrics none"),
        ({"epoch": [1], "lr": [0.1]}, None, "neither runs nor metrics"),
        ({"run": [0], "epoch": [1], "a": [1.0], "b": [1.0]}, None, "metrics a, b: say which"),
        ({"run": [0], "epoch": [1], "Epoch": [1], "a": [1.0]}, None, "several columns 'epoch': 'epoch', 'Epoch'"),
        ({"epoch": [1], "a": [1.0], " ": [1.0], "b ": [1.0], "b": [2.0]}, None, "2 columns for the run 'b'"),
    ],
)
def test_columns_that_do_not_do(columns: dict[str, Any], metric: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_curves(pd.DataFrame(columns), metric=metric)


def test_a_column_named_twice_matters_only_if_it_is_needed() -> None:
    table = pd.DataFrame([[0, 1, 0.1, 0.2, 5]], columns=["run", "epoch", "acc", "acc", "note"])
    with pytest.raises(ValueError, match="2 columns 'acc'"):
        read_curves(table, metric="acc")
    table.columns = ["run", "epoch", "acc", "note", "note"]
    assert read_curves(table, metric="acc").values.tolist() == [[0.1]]


def test_metric_that_stands_out_is_chosen_and_said() -> None:
    table = pd.DataFrame({"run": [0], "epoch": [1], "train/acc": [0.3], "val/acc": [0.1], "lr": [0.01], "time": [3]})
    curves = read_curves(table)
    assert curves.metric == "val/acc"
    assert said(curves, "metric 'val/acc' chosen of train/acc, val/acc")


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val_loss", "down"), ("valLoss", "down"), ("testloss", "down"), ("perplexity", "down"), ("RMSE", "down"),
        ("nll", "down"), ("negative_log_likelihood", "down"), ("log_likelihood", "up"), ("top1_error", "down"),
        ("neg_mean_squared_error", "up"), ("val/acc", "up"), ("testAcc", "up"), ("valacc", "up"), ("F1", "up"),
        ("r2", "up"), ("SSIM", "up"), ("bleu", "up"), ("x", None), ("blossom", None),
    ],
)  # fmt: skip
def test_directions_by_name(metric: str, direction: str | None) -> None:
    found = direction_of(metric)
    assert (found and found[0]) == direction


# ---- Epochs and steps ----------------------------------------------------------------------------------------------


def of_steps(steps: list[int], **options: Any) -> Curves:
    acc = [0.1 * (k + 1) for k in range(len(steps))]
    return read_curves(pd.DataFrame({"run": "a", "step": steps, "acc": acc}), **options)


def test_steps_on_a_grid() -> None:
    curves = of_steps([391, 782, 1564])
    assert curves.unit == "391 steps"
    np.testing.assert_allclose(curves.values, [[0.1, 0.2, NAN, 0.3]], equal_nan=True)
    zero_based = of_steps([390, 781, 1563])
    np.testing.assert_array_equal(zero_based.values, curves.values)
    assert said(zero_based, "evaluations at steps 390, 781, ...")
    np.testing.assert_array_equal(of_steps([390, 781, 1563], count="from_zero").values, curves.values)


def test_steps_that_begin_at_zero() -> None:
    assert of_steps([0, 391, 782]).first_passages(0.2).times.tolist() == [2]
    assert of_steps([0, 391, 782], count="untrained_first").first_passages(0.2).times.tolist() == [1]
    with pytest.raises(ValueError, match="steps begin at 0, not at 1"):
        of_steps([0, 391, 782], count="from_one")
    with pytest.raises(ValueError, match="no evaluation at step 0"):
        of_steps([390, 781], count="untrained_first")


def test_steps_by_one_are_epochs() -> None:
    curves = of_steps([1, 2, 3])
    assert (curves.unit, curves.horizon) == ("step", 3)
    assert said(curves, "one step is read as one epoch")
    assert of_steps([7]).unit == "7 steps"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([391, 782, 1000, 1173, 1564], "step 1000 is not on the grid of the others, multiples of 391"),
        ([390, 781, 1172, 1200], "step 1200 is not on the grid of the others, multiples of 391 less one"),
        ([50, 150, 250], "step 50 is not on the grid"),
        ([100, 200, 10**18], "step 1e\\+18 in row 2 is beyond"),
        ([1, 2, 10**7], "more than 1,000,000"),
        ([100, -200], "step -200 in row 1 is negative"),
    ],
)
def test_irregular_steps_name_the_offender(steps: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of_steps(steps)


def test_unions_of_steps_of_several_runs_are_one_grid() -> None:
    table = pd.DataFrame({"run": [0, 0, 1, 1], "step": [100, 300, 200, 400], "acc": [0.1, 0.2, 0.3, 0.4]})
    curves = read_curves(table)
    np.testing.assert_array_equal(curves.values, [[0.1, NAN, 0.2, NAN], [NAN, 0.3, NAN, 0.4]])


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        ([1.5], r"epoch 1\.5 in row 0: these must be whole numbers"),
        ([np.inf], "epoch inf in row 0"),
        ([-1], "epoch -1 in row 0 is negative"),
        ([10**9], "epoch 1e\\+09 in row 0 is beyond 1,000,000"),
        ([None], "row 0 has a value but nothing in column 'epoch'"),
        (["2024-01-01"], "'2024-01-01' in column 'epoch', row 0, is not a number"),
        ([pd.Timestamp("2024-01-01")], "2024-01-01 00:00:00 in column 'epoch', row 0, is not a number"),
        ([pd.Timedelta(1)], "is not a number"),
        ([True], "True in column 'epoch'"),
        ([10**400], "is not a number"),
        (["1_0"], "'1_0' in column 'epoch'"),
    ],
)
def test_epochs_that_are_none(epochs: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_curves(pd.DataFrame({"run": ["a"], "epoch": epochs, "acc": [0.5]}))


def test_evaluations_every_fifth_epoch() -> None:
    table = pd.DataFrame({"run": "a", "epoch": [5, 10, 15], "acc": [0.1, 0.2, 0.3]})
    curves = read_curves(table)
    assert curves.first_passages(0.2).times.tolist() == [10]
    assert said(curves, "nobody was evaluated at epochs 1-4, 6-9, 11-14")
    assert not said(curves, "counted from 0")
    table["epoch"] -= 1
    assert said(read_curves(table), "they look like every 5 epochs counted from 0")
    assert read_curves(table, count="from_zero").first_passages(0.2).times.tolist() == [10]


# ---- Gaps, ends, duplicates ----------------------------------------------------------------------------------------


def test_gaps_ends_and_beginnings_are_said() -> None:
    full = np.arange(1, 11)
    rows = [("full", full), ("gap", [1, 2, 3, 7, 8, 9, 10]), ("early", full[:4]), ("late", full[6:])]
    table = pd.concat([pd.DataFrame({"run": run, "epoch": epochs, "acc": 0.5}) for run, epochs in rows])
    curves = read_curves(table)
    assert curves.runs == ("early", "full", "gap", "late")
    assert said(curves, "run gap lacks epochs 4-6: the target is not met there")
    assert said(curves, "run late begins at epoch 7: a target met before would not be seen")
    assert curves.first_passages(0.5).times.tolist() == [1, 1, 1, 7]
    assert curves.first_passages(0.6).times.tolist() == [4, 10, 10, 10]
    assert early_stops(curves, curves.first_passages(0.5)) == []
    (sentence,) = early_stops(curves, curves.first_passages(0.6))
    assert sentence.startswith("1 run stopped before the others without the target (epoch 4): censored there")


def test_values_that_become_nan_for_good_end_the_run() -> None:
    table = pd.DataFrame(
        {"run": ["a"] * 4 + ["b"] * 4, "epoch": [1, 2, 3, 4] * 2, "loss": [3, 2, NAN, NAN, 3, 2, 2, 2]}
    )
    curves = read_curves(table)
    assert curves.first_passages(1.0).times.tolist() == [2, 4]
    assert said(curves, "run a has rows up to epoch 4 but no value after 2: read as stopped there")
    table = table.fillna(np.inf)
    curves = read_curves(table)
    assert curves.first_passages(1.0).times.tolist() == [4, 4]
    assert said(curves, "1 run with infinite values (run a from epoch 3)")


def test_runs_without_any_value_are_kept_and_said() -> None:
    curves = read_curves(pd.DataFrame({"run": ["a", "b"], "epoch": [1, 1], "acc": [0.5, NAN]}))
    assert curves.runs == ("a", "b")
    assert said(curves, "1 run without a value (run b)")
    assert curves.first_passages(0.6).times.tolist() == [1, 0]


def test_rows_written_twice() -> None:
    table = pd.DataFrame({"run": 3, "epoch": [1, 2, 2], "acc": [0.1, 0.2, 0.2]})
    assert said(read_curves(table), "1 rows written twice with equal values: read once")
    table.loc[2, "acc"] = 0.25
    with pytest.raises(ValueError, match=r"run 3 has two values at epoch 2: 0\.2 and 0\.25"):
        read_curves(table)
    table.loc[2, "acc"] = NAN  # no evaluation, so no second one
    assert read_curves(table).values.tolist() == [[0.1, 0.2]]


def test_percent_beside_fractions() -> None:
    epochs = list(range(1, 6)) * 3
    acc = [10, 40, 60, 70, 72.0, *[0.1, 0.4, 0.6, 0.7, 0.71], *[10, 30, 50, 60, 70.0]]
    table = pd.DataFrame({"run": ["a"] * 5 + ["b"] * 5 + ["c"] * 5, "epoch": epochs, "acc": acc})
    with pytest.raises(ValueError, match=r"run b looks like a fraction \(up to 0\.71\) and that of run a like percent"):
        read_curves(table)
    # A network of a thousand classes that collapsed, in percent.
    table.loc[5:9, "acc"] = 0.1
    assert read_curves(table).n == 3
    # One that was stopped after the first epoch, when all are below 1 %.
    acc = [0.5, 40, 70, 0.6, 0.4, 30, 60]
    table = pd.DataFrame({"run": list("aaabccc"), "epoch": [1, 2, 3, 1, 1, 2, 3], "acc": acc})
    assert read_curves(table).n == 3


def test_almost_empty_tables_are_a_mistake() -> None:
    table = pd.DataFrame({"run": np.arange(100), "epoch": 1, "acc": 0.5})
    table.loc[0, "epoch"] = 900_000
    with pytest.raises(ValueError, match="is epoch 900,000 a mistake"):
        read_curves(table)


# ---- Numbers, names, parents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "Float32", "float64", "Float64", "object", "str", "category"])
def test_values_of_any_type(dtype: str) -> None:
    table = pd.DataFrame({"run": "a", "epoch": [1, 2, 3], "acc": pd.Series([0.1, 0.71, NAN]).astype(dtype)})
    curves = read_curves(table)
    assert curves.values.tolist() == [[0.1, 0.71]]
    assert said(curves, "single precision") == (dtype.lower() in ("float32", "float16"))


@pytest.mark.parametrize("dtype", ["int8", "uint64", "Int64", "float32", "str", "object", "category"])
def test_epochs_and_runs_of_any_type(dtype: str) -> None:
    table = pd.DataFrame({"run": pd.Series([1, 1, 0]).astype(dtype), "epoch": pd.Series([1, 2, 1]).astype(dtype)})
    table["acc"] = [0.1, 0.2, 0.3]
    curves = read_curves(table)
    assert curves.runs == ("0", "1")
    np.testing.assert_array_equal(curves.values, [[0.3, NAN], [0.1, 0.2]])


def test_shortest_decimals_are_what_numpy_prints(seed: int) -> None:
    rng = np.random.default_rng(seed)
    decimals = rng.integers(0, 10**6, 1000) / 10**6
    single = np.concatenate([decimals, [np.inf, -np.inf, NAN, 0, 1e-30, -3e30]]).astype(np.float32)
    result = shortest_decimals(single.reshape(2, -1)).ravel()
    np.testing.assert_array_equal(result[:1000], decimals)
    np.testing.assert_array_equal(result.astype(np.float32), single)


@pytest.mark.parametrize("text", ["nan", "NaN", "-", "", " ", "None", "null", "N/A", None, pd.NA, NAN])
def test_cells_without_a_number(text: Any) -> None:
    table = pd.DataFrame({"run": "a", "epoch": [1, 2, 3], "acc": pd.Series(["0.1", text, "inf"], dtype=object)})
    np.testing.assert_array_equal(read_curves(table, direction="down").values, [[0.1, NAN, np.inf]])


@pytest.mark.parametrize("cell", ["high", "0,5", "50 %", "0x10", "1_0", [0.5], {"a": 1}, 1j, True, b"0.5"])
def test_other_cells_are_named(cell: Any) -> None:
    table = pd.DataFrame({"run": "a", "epoch": [1, 2], "acc": pd.Series([0.1, cell], dtype=object)})
    with pytest.raises(ValueError, match="in column 'acc', row 1, is not a number"):
        read_curves(table)


@pytest.mark.parametrize("names", [["a", None], ["a", ""], ["a", "  "], [1.0, NAN]])
def test_runs_without_a_name(names: list[Any]) -> None:
    table = pd.DataFrame({"run": names, "epoch": [1, 1], "acc": [0.1, 0.2]})
    with pytest.raises(ValueError, match="row 1 names no run"):
        read_curves(table)
    table.loc[1, "acc"] = NAN  # an empty line tells nothing
    assert read_curves(table).n == 1


def test_names_are_compared_as_text() -> None:
    table = pd.DataFrame({"run": [1, "1", 1.0, "x"], "epoch": [1, 2, 3, 1], "acc": [0.1, 0.2, 0.3, 0.4]})
    curves = read_curves(table)
    assert curves.runs == ("1", "x")
    np.testing.assert_array_equal(curves.values, [[0.1, 0.2, 0.3], [0.4, NAN, NAN]])
    with pytest.raises(ValueError, match="must hold names or numbers"):
        read_curves(pd.DataFrame({"run": [[1], [2]], "epoch": [1, 1], "acc": [0.1, 0.2]}))


def test_parents() -> None:
    table = pd.DataFrame({"run": [20, 20, 21], "epoch": [1, 2, 1], "acc": [0.1, 0.2, 0.3], "parent": [5, 5, 6]})
    assert read_curves(table).parents == ("5", "6")
    table.loc[1, "parent"] = 6
    with pytest.raises(ValueError, match="run 20 has the parents 5 and 6"):
        read_curves(table)
    table["parent"] = [5, 5, NAN]
    with pytest.raises(ValueError, match="run 21 has no parent, but others have one"):
        read_curves(table)
    table["parent"] = NAN
    assert read_curves(table).parents is None


def test_nothing_to_read() -> None:
    with pytest.raises(ValueError, match="the DataFrame has no rows"):
        read_curves(pd.DataFrame({"run": [], "epoch": [], "acc": []}))
    with pytest.raises(ValueError, match="no finite values"):
        read_curves(pd.DataFrame({"run": ["a"], "epoch": [1], "acc": [NAN]}))
    with pytest.raises(ValueError, match="no evaluation but that of the untrained network"):
        read_curves(pd.DataFrame({"run": ["a"], "epoch": [0], "acc": [0.1]}), count="untrained_first")
