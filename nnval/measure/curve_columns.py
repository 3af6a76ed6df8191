"""What the columns of a log mean, by their names alone: epochs or steps, runs, metrics; and which way is better.

Only names are looked at, so that a large file need be read no further than the columns that are wanted.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["up", "down"]

EPOCHS = ("epoch", "epochs", "epoch_number", "current_epoch", "trainer_epoch", "train_epoch")
STEPS = (
    "global_step", "trainer_global_step", "train_global_step", "step", "steps", "iteration", "iterations", "iter",
    "iters", "num_updates",
)  # fmt: skip
RUNS = (
    "run", "run_id", "runid", "run_name", "member", "replicate", "seed", "trial", "trial_id", "trial_number", "name",
    "experiment", "experiment_name",
)  # fmt: skip
PARENTS = ("parent", "parent_run", "parent_id")
PREFERRED_METRICS = (
    "validation_accuracy", "val_accuracy", "valid_accuracy", "eval_accuracy", "val_acc", "valid_acc", "eval_acc",
    "test_accuracy", "test_acc", "accuracy", "acc",
)  # fmt: skip
BOOKKEEPING = {
    *EPOCHS, *STEPS, *RUNS, *PARENTS, "", "index", "unnamed_0", "level_0", "time", "timestamp", "wall_time", "walltime",
    "runtime", "elapsed", "elapsed_time", "epoch_time", "duration", "date", "datetime", "created_at", "lr",
    "learning_rate", "hp_metric",
}  # fmt: skip
"""Columns that no curve is in, unless somebody names them."""

_DOWN = {
    "loss", "losses", "error", "errors", "err", "perplexity", "ppl", "mse", "mae", "rmse", "mape", "nll", "bce", "xent",
    "cost", "wer", "cer", "fid", "bpc", "regret",
}  # fmt: skip
_UP = {
    "acc", "accuracy", "accuracies", "f1", "auc", "auroc", "auprc", "r2", "bleu", "rouge", "ssim", "psnr", "precision",
    "recall", "iou", "miou", "dice", "map", "score", "reward", "return", "top1", "top5", "kappa", "mcc",
}  # fmt: skip
_OF_A_RUN = {"run", "seed", "trial", "member", "replicate", "fold", "rep"}


@dataclass(frozen=True)
class Layout:
    """Where in a table the curves are; positions of columns count from 0.

    Attributes:
        metric: what the curves show.
        clock: column of the epochs, or of the steps.
        in_epochs: whether it counts epochs.
        run: column with the name of the run; None if there is a column per run, or one run only.
        parent: column with the name of the run that a run was branched from, if there is one.
        values: the column with the metric; of a wide table, one column per run.
        runs: names of the runs of a wide table; None for other tables.
        notes: what was guessed, as sentences.
    """

    metric: str
    clock: int
    in_epochs: bool
    run: int | None
    parent: int | None
    values: tuple[int, ...]
    runs: tuple[str, ...] | None
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[int, ...]:
        """All columns that are needed, in increasing order."""
        return tuple(sorted({self.clock, *self.values} | {c for c in (self.run, self.parent) if c is not None}))

    def within(self, columns: Sequence[int]) -> "Layout":
        """The same layout of a table that has these columns only.

        Args:
            columns: positions in the full table, in the order of the smaller one.
        """
        place = {column: position for position, column in enumerate(columns)}
        return Layout(
            self.metric,
            place[self.clock],
            self.in_epochs,
            None if self.run is None else place[self.run],
            None if self.parent is None else place[self.parent],
            tuple(place[column] for column in self.values),
            self.runs,
            self.notes,
        )


def shown(names: Iterable[object], most: int = 12) -> str:
    """Names for a message: the first few, and how many more there are.

    Args:
        names: anything with a text.
        most: that are listed.

    Example:
        >>> shown(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    texts = [text if len(text := str(name)) <= 60 else text[:57] + "..." for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def key(name: str) -> str:
    """A name as names are compared: lower case, words joined by underscores.

    Args:
        name: of a column.

    Example:
        >>> key("Trainer/global step")
        'trainer_global_step'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _words(name: str) -> set[str]:
    """Words of a name, by separators and by capitals: valLoss, val/loss and val_loss alike."""
    by_capitals = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {word.lower() for word in by_capitals} | set(key(name).split("_"))


def direction_of(metric: str) -> tuple[Direction, str] | None:
    """Which way a metric gets better, and the word in its name that says so.

    Args:
        metric: its name.

    Returns:
        None if the name does not tell.

    Example:
        >>> direction_of("val/loss"), direction_of("testAcc"), direction_of("value")
        (('down', 'loss'), ('up', 'acc'), None)
    """
    words, joined = _words(metric), key(metric).replace("_", "")
    negative = {"neg", "negative"} & words
    if "likelihood" in words:
        return ("down", "negative likelihood") if negative else ("up", "likelihood")
    down = sorted(words & _DOWN) or [w for w in ("loss", "perplexity") if joined.startswith(w) or joined.endswith(w)]
    if down:
        return ("up", f"negative {down[0]}") if negative else ("down", down[0])
    up = sorted(words & _UP) or [word for word in ("accuracy", "acc") if joined.endswith(word)]
    return ("up", up[0]) if up else None


def _column(names: Sequence[str], keys: Sequence[str], wanted: Sequence[str], where: str) -> int | None:
    """The column with the first of these names that occurs."""
    for name in wanted:
        if keys.count(name) > 1:
            both = [repr(names[i]) for i, other in enumerate(keys) if other == name]
            raise ValueError(f"{where} has several columns {name!r}: {shown(both)}; keep one of them")
        if name in keys:
            return keys.index(name)
    return None


def chosen_metric(available: Sequence[str], metric: str | None, where: str) -> tuple[str, tuple[str, ...]]:
    """The metric to read, and what was guessed about it.

    Args:
        available: names of metrics.
        metric: the one that was asked for, if any.
        where: the source, for messages.

    Raises:
        ValueError: if it is not there, or if none stands out.
    """
    if metric is not None:
        if metric not in available:
            raise ValueError(f"{where} has no metric {metric!r}; it has {shown(available) or 'none'}")
        return metric, ()
    candidates = [name for name in available if key(name) not in BOOKKEEPING]
    if len(candidates) == 1:
        return candidates[0], ()
    for preferred in PREFERRED_METRICS:
        for name in candidates:
            if key(name) == preferred:
                return name, (f"metric {name!r} chosen of {shown(candidates)} (--metric to read another)",)
    raise ValueError(f"{where} has the metrics {shown(candidates) or 'none'}: say which (--metric)")


def layout(columns: Sequence[object], metric: str | None, where: str) -> Layout:
    """Where the curves are in a table with these columns.

    Args:
        columns: names, in order.
        metric: the one that was asked for, if any.
        where: the source, for messages.

    Raises:
        ValueError: if there are no epochs or steps, no such metric, several that may be meant, or two columns of the
            same name among those that are needed.
    """
    names = [str(column).strip() for column in columns]
    keys = [key(name) for name in names]
    clock = _column(names, keys, EPOCHS, where)
    in_epochs = clock is not None
    if clock is None:
        clock = _column(names, keys, STEPS, where)
    if clock is None:
        raise ValueError(f"{where} has no column 'epoch' (nor 'step' or 'iteration'); it has {shown(names) or 'none'}")
    run, parent = _column(names, keys, RUNS, where), _column(names, keys, PARENTS, where)
    others = [i for i in range(len(names)) if i not in (clock, run, parent)]
    if run is not None:
        return _one_column(names, others, metric, where, (clock, in_epochs, run, parent))
    curves = [i for i in others if keys[i] not in BOOKKEEPING]
    if metric is not None and any(names[i] == metric for i in others):
        return _one_column(names, others, metric, where, (clock, in_epochs, None, parent))
    if not curves:
        raise ValueError(f"{where} has a column {names[clock]!r} but neither runs nor metrics beside it")
    if all(" - " in names[i] for i in curves):
        return _exported(names, curves, metric, where, (clock, in_epochs))
    if _are_metrics([names[i] for i in curves], where):
        return _one_column(names, others, metric, where, (clock, in_epochs, None, parent))
    if metric is not None:
        raise ValueError(
            f"{where} has no column 'run', so its columns {shown(names[i] for i in curves)} are runs of one metric; "
            "leave out --metric"
        )
    return _wide(curves, "value", [names[i] for i in curves], where, (clock, in_epochs))


def _one_column(
    names: Sequence[str],
    others: Sequence[int],
    metric: str | None,
    where: str,
    place: tuple[int, bool, int | None, int | None],
) -> Layout:
    """A table with the metric in one column: of many runs, or of one."""
    name, notes = chosen_metric([names[i] for i in others], metric, where)
    found = [i for i in others if names[i] == name]
    if len(found) > 1:
        raise ValueError(f"{where} has {len(found)} columns {name!r}: rename or remove one")
    clock, in_epochs, run, parent = place
    return Layout(name, clock, in_epochs, run, parent, (found[0],), None, notes)


def _wide(
    curves: Sequence[int],
    metric: str,
    runs: Sequence[str],
    where: str,
    place: tuple[int, bool],
    notes: tuple[str, ...] = (),
) -> Layout:
    twice = [run for run in runs if runs.count(run) > 1] if len(set(runs)) < len(runs) else []
    if twice:
        raise ValueError(f"{where} has {runs.count(twice[0])} columns for the run {twice[0]!r}: rename or remove one")
    if "" in runs:
        raise ValueError(f"{where}: column {curves[runs.index('')] + 1} has no name; name the run, or remove it")
    return Layout(metric, *place, None, None, tuple(curves), tuple(runs), notes)


def _exported(
    names: Sequence[str], curves: Sequence[int], metric: str | None, where: str, place: tuple[int, bool]
) -> Layout:
    """A chart exported from Weights & Biases: "<run> - <metric>", with "...__MIN" and "...__MAX" beside each."""
    pairs = {i: tuple(names[i].rsplit(" - ", 1)) for i in curves if not names[i].endswith(("__MIN", "__MAX"))}
    metrics = list(dict.fromkeys(name for _, name in pairs.values()))
    name, notes = chosen_metric(metrics, metric, where)
    found = [i for i, (_, of) in pairs.items() if of == name]
    return _wide(found, name, [pairs[i][0] for i in found], where, place, notes)


def _are_metrics(names: Collection[str], where: str) -> bool:
    """Whether the columns of a table without runs are metrics of one run, rather than runs of one metric."""
    metrics = [name for name in names if direction_of(name)]
    if not metrics or all(_words(name) & _OF_A_RUN for name in names):
        return False
    stems = {re.sub(r"\d+$", "", name) for name in names}
    if len(names) > 1 and len(stems) == 1:
        # acc_0, acc_1, ... may be networks; top1 and top5 are metrics; r1, r2 and r3 have nothing to do with R2.
        if not direction_of(stems.pop()) and len(metrics) < len(names):
            return False
        raise ValueError(
            f"{where} has no column 'run', and its columns {shown(names)} may be runs of one metric or metrics of one "
            "run. If they are runs, name them run_0, run_1, ...; if they are metrics, say which (--metric)"
        )
    return True
