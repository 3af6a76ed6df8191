"""Reading training curves: what is accepted, and the errors for what is not."""

import gzip
import subprocess
import sys

import numpy as np
import pytest

from nnval.measure.curves import read_curves
from theory.survival import Survival


def written(tmp_path, text, name="curves.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


LONG = "run,epoch,loss,val_acc\n0,1,2.0,0.1\n0,2,1.0,0.5\n1,1,2.0,0.2\n"


def test_long_file_with_runs_of_unequal_length(tmp_path):
    curves = read_curves(written(tmp_path, LONG))
    assert curves.metric == "val_acc"
    assert curves.runs == ("0", "1")
    np.testing.assert_array_equal(curves.values, [[0.1, 0.5], [0.2, np.nan]])
    passages = curves.first_passages(0.5)
    assert passages.times.tolist() == [2, 1]
    assert passages.observed.tolist() == [True, False]


def test_metric_by_name_and_direction(tmp_path):
    curves = read_curves(written(tmp_path, LONG), metric="loss")
    assert curves.first_passages(1.0, direction="down").observed.tolist() == [True, False]


def test_runs_are_sorted_as_numbers_and_named_ones_as_text(tmp_path):
    numbers = read_curves(written(tmp_path, "run,epoch,a\n10,1,0.3\n9,1,0.2\n"))
    assert numbers.runs == ("9", "10")
    assert numbers.values.ravel().tolist() == [0.2, 0.3]
    names = read_curves(written(tmp_path, "run,epoch,a\nb,1,0.3\na,1,0.2\n"))
    assert names.runs == ("a", "b")


def test_wide_and_gzipped(tmp_path):
    path = tmp_path / "curves.csv.gz"
    path.write_bytes(gzip.compress(b"epoch,first,second\n1,0.1,0.2\n2,0.3,\n"))
    curves = read_curves(path)
    assert curves.runs == ("first", "second")
    np.testing.assert_array_equal(curves.values, [[0.1, 0.3], [0.2, np.nan]])


def test_zero_based_files_must_be_declared(tmp_path):
    path = written(tmp_path, "run,epoch,a\n0,0,0.1\n0,1,0.9\n")
    with pytest.raises(ValueError, match="epochs begin at 0"):
        read_curves(path)
    # The evaluation after the second epoch, whatever the file calls it.
    assert read_curves(path, zero_based=True).first_passages(0.9).times.tolist() == [2]
    with pytest.raises(ValueError, match="begin at 1, not at 0"):
        read_curves(written(tmp_path, LONG, "one_based.csv"), zero_based=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read as CSV"),
        ("run,epoch,a\n", "has no rows"),
        ("run,step,a\n0,1,0.1\n", "no column 'epoch'"),
        ("run,epoch\n0,1\n", "has the metrics none"),
        ("epoch\n1\n", "no runs beside it"),
        ("run,epoch,a\n0,1,high\n", "'high' in column 'a', row 2, is not a number"),
        ("run,epoch,a\n0,1.5,0.1\n", "whole numbers"),
        ("run,epoch,a\n0,,0.1\n", "whole numbers"),
        ("run,epoch,a\n0,-1,0.1\n", "epoch -1 is negative"),
        ("run,epoch,a\n0,1,0.1\n0,1,0.2\n", "has epoch 1 2 times"),
        ("run,epoch,a\n0,1,inf\n", "infinite"),
        ("run,epoch,a\n0,1,nan\n", "no finite values"),
        ("run,epoch,a\n0,3000000,0.1\n", "optimizer steps"),
        ("run,epoch,a,b\n0,1,0.1,0.2\n", "say which"),
        ('run,epoch,a\n0,1,"0.1\n', "can't be read as CSV"),
    ],
)
def test_malformed_files_have_clear_errors(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_curves(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run,epoch,a\n,1,0.1\n", "row 2 names no run"),
        ("run,epoch,a\n0,1e300,0.1\n", "optimizer steps"),
        ("epoch,train_loss,val_acc\n1,2.0,0.1\n", "add a column 'run'"),
    ],
)
def test_logs_that_could_be_misread_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_curves(written(tmp_path, text))


def test_metric_of_a_wide_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="leave out --metric"):
        read_curves(written(tmp_path, "epoch,first,second\n1,0.1,0.2\n"), metric="accuracy")


def test_percentage_as_target_of_fractions(tmp_path):
    with pytest.raises(ValueError, match="above 1 but val_acc is a fraction"):
        read_curves(written(tmp_path, LONG)).first_passages(50)


def test_missing_files_and_metrics(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_curves(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="has no metric 'accuracy'; it has loss, val_acc"):
        read_curves(written(tmp_path, LONG), metric="accuracy")
    (tmp_path / "broken.csv.gz").write_bytes(b"not gzip at all")
    with pytest.raises(ValueError, match="can't be read as CSV"):
        read_curves(tmp_path / "broken.csv.gz")


def test_fraction_as_target_of_percentages(tmp_path):
    curves = read_curves(written(tmp_path, "run,epoch,a\n0,1,71.0\n0,2,73.0\n"))
    with pytest.raises(ValueError, match="give it in percent"):
        curves.first_passages(0.72)
    assert curves.first_passages(72).times.tolist() == [2]


@pytest.mark.shared
def test_published_curves_give_the_published_survival(shared_data):
    curves = read_curves(shared_data / "meir2025_cifar10_resnet18" / "unperturbed.csv.gz")
    survival = Survival.of(curves.first_passages(0.72))
    assert curves.values.shape == (1000, 200)
    assert survival.values[[10, 13, 20, 100, 200]].round(3).tolist() == [1.0, 0.736, 0.455, 0.331, 0.293]


def test_reading_needs_no_torch(tmp_path):
    path = written(tmp_path, LONG)
    code = f"import sys; from nnval.measure.curves import read_curves; read_curves({str(path)!r})"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True)
