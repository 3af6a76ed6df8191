"""Does one measured perturbation predict training at every interval? Real networks beside the theory.

An unperturbed ensemble gives the survival curve. Its survivors at P* are perturbed once and followed. From these two
data sets ``theory.prediction`` predicts the training time under each perturbation at every interval P; training with
the perturbation every P epochs, from fresh seeds, measures it at some of them. Every stage is a resumable run.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnval.adopted_run import UNPERTURBED, adopt
from nnval.engine import run_directory as disk
from nnval.engine.branch import Branch
from nnval.engine.config import TrainingConfig, fingerprint_of
from nnval.engine.device import environment, resolve_device
from nnval.engine.ensemble import Progress, train_ensemble
from nnval.engine.executors import Pool, connect
from nnval.engine.results import EnsembleResult
from nnval.study import PeriodicRun, PerturbedOnceRun, Protocol, Study, StudyConfig
from sim.random_streams import stream
from theory.branch_epochs import APPROXIMATION_MARGIN, transfer_reasons
from theory.estimate import Estimate, compare, holm
from theory.hazard import constant_hazard_test
from theory.perturbed_once import PerturbedOnce
from theory.predicted_time import Prediction
from theory.prediction import LONG_RESIDUALS, PerturbationData
from theory.quasi_steady_state import distance_to, kolmogorov_smirnov_relaxation, stationarity
from theory.survival import FirstPassages, Survival

_THREADS = 1
"""Of torch in each process."""


def run_study(
    config: StudyConfig,
    directory: str | Path,
    *,
    progress: Progress | None = None,
    workers: int = 1,
    unperturbed: Path | None = None,
) -> Study:
    """Train, predict, train again and compare.

    Args:
        config: what to do.
        directory: of the study; what is already trained there is not trained again.
        progress: called with completed and all work, in member-epochs as far as they can be foreseen, and a text.
        workers: processes that train blocks of an ensemble; the results do not depend on it. 1 trains in this one.
        unperturbed: a finished run with the training of ``config``, to begin with; None trains it.

    Returns:
        The study. Nothing but the runs, ``config.json`` and ``environment.json`` is written.

    Raises:
        ValueError: if workers is below 1, the directory holds another study, no run survives to be perturbed, or most
            runs diverge.
        StorageError: if a file can't be written; the study can be resumed.
        Interrupted: after Ctrl-C; the study can be resumed.

    Example:
        >>> import tempfile
        >>> config = StudyConfig(
        ...     training=TrainingConfig(train_size=40, hidden=(4,), epochs=4, members=4, execution="loop"),
        ...     perturbations={"reset": {"name": "full_reset"}}, intervals=[2], branch_epochs=[2], follow=2, target=0.2,
        ...     periodic_members=4, replicates=100,
        ... )
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     study = run_study(config, directory)
        >>> study.rows  # label, predictor, interval, horizon
        (('reset', 'restart', 2, 4),)
    """
    if workers < 1:
        raise ValueError(f"workers={workers} must be >= 1")
    directory = Path(directory)
    plain = config.to_dict()
    description = {"schema": disk.SCHEMA, "fingerprint": fingerprint_of(plain), "config": plain, "branch": None}
    with disk.opened(directory, description, environment(resolve_device(config.training.device))):
        if unperturbed is not None:
            adopt(unperturbed, directory)
        with connect(None, workers, _THREADS) as pool:
            return _run(config, directory, progress, pool)


@dataclass(frozen=True)
class _Ensemble:
    """An ensemble to train; ``work``, the member-epochs expected, is its weight in the progress."""

    config: TrainingConfig
    directory: Path
    name: str
    work: int
    parents: Branch | None = None


def _run(config: StudyConfig, directory: Path, progress: Progress | None, pool: Pool | None) -> Study:
    training = config.training
    first = _Ensemble(training, directory / UNPERTURBED, "unperturbed", training.members * training.epochs)
    # A guess until survival is known: networks stop at the target, on average well before the horizon.
    later = sum(
        len(config.intervals) * config.periodic_members * training.epochs
        + (perturbation["name"] != "full_reset") * len(config.branch_epochs) * training.members * config.follow
        for perturbation in config.perturbations.values()
    )
    later = round(0.4 * later)

    unperturbed = _train(first, pool, progress, 0, first.work + later)
    study = _unperturbed_study(config, directory, unperturbed)
    tasks = _tasks(study)
    whole = first.work + sum(task.work for task in tasks.values())
    ensembles, done = {}, first.work
    for place, task in tasks.items():
        ensembles[place] = _train(task, pool, progress, done, whole)
        done += task.work
    protocols = tuple(_protocol(study, label, ensembles) for label in config.perturbations)
    return with_comparisons(dataclasses.replace(study, protocols=protocols))


def _train(task: _Ensemble, pool: Pool | None, progress: Progress | None, before: int, whole: int) -> EnsembleResult:
    """Trains an ensemble, or reads it; refuses one of which most diverged."""

    def report(done: int, total: int, text: str) -> None:
        # A branch has as many members as there are survivors, which is known only now: scaled to the work announced.
        if progress is not None:
            progress(before + round(task.work * done / max(total, 1)), whole, f"{task.name}: {text}")

    result = train_ensemble(
        task.config, task.directory, parents=task.parents, progress=report, threads=_THREADS, pool=pool
    )
    report(1, 1, "done")
    diverged = int((result.status == "diverged").sum())
    if 2 * diverged >= len(result.members):
        raise ValueError(
            f"{diverged} of {len(result.members)} members of {task.name} diverged, so there is no training to study: "
            f"lower learning_rate={task.config.learning_rate:g}"
        )
    return result


def _first_passages(ensemble: EnsembleResult, target: float) -> FirstPassages:
    """First passages of an ensemble; a diverged network never gets there, so it is unfinished at the horizon."""
    times, observed = ensemble.completion(target)
    diverged = (ensemble.status == "diverged") & ~observed
    return FirstPassages(np.where(diverged, ensemble.config.epochs, times), observed)


def _unperturbed_study(config: StudyConfig, directory: Path, unperturbed: EnsembleResult) -> Study:
    """Everything that the unperturbed runs alone tell."""
    accuracy = unperturbed.curves["validation_accuracy"]
    target = float(np.median(np.nanmax(accuracy, axis=1))) if config.target is None else config.target
    first_passages = _first_passages(unperturbed, target)
    survival = Survival.of(first_passages)
    reference = (config.branch_epochs[0], config.branch_epoch)
    quasi_steady_state, published, hazard = None, None, None
    if (first_passages.times > reference[0]).sum() >= 2:
        quasi_steady_state = stationarity(
            accuracy,
            first_passages,
            reference=reference,
            tolerance=config.tolerance,
            rng=stream(config.training.seed, "stationarity"),
        )
        published = kolmogorov_smirnov_relaxation(accuracy, first_passages, reference=reference)
        relaxed = quasi_steady_state.relaxation_epoch
        if relaxed is not None and relaxed < survival.horizon:
            hazard = constant_hazard_test(survival, relaxed)
    return Study(
        config=config,
        directory=directory,
        target=target,
        unperturbed=unperturbed,
        first_passages=first_passages,
        survival=survival,
        quasi_steady_state=quasi_steady_state,
        published_relaxation_epoch=published,
        hazard_test=hazard,
        protocols=(),
    )


def _once_place(label: str, epoch: int) -> str:
    return f"perturbed_once/{label}/P{epoch:04d}"


def _periodic_place(label: str, interval: int) -> str:
    return f"periodic/{label}/P{interval:04d}"


def untrained(config: StudyConfig, directory: str | Path) -> list[str]:
    """Which ensembles of a study are not finished.

    Args:
        config: of the study.
        directory: of the study.

    Returns:
        Their places in the directory; empty if nothing is left to train.
    """
    places = [UNPERTURBED]
    for label, perturbation in config.perturbations.items():
        places += [_periodic_place(label, interval) for interval in config.intervals]
        if perturbation["name"] != "full_reset":
            places += [_once_place(label, epoch) for epoch in config.branch_epochs]
    return [place for place in places if not (Path(directory) / place / disk.DONE).exists()]


def _tasks(study: Study) -> dict[str, _Ensemble]:
    """All ensembles after the unperturbed one, by their place in the directory."""
    config = study.config
    tasks = {}
    for label, perturbation in config.perturbations.items():
        for interval in config.intervals:
            place = _periodic_place(label, interval)
            training = dataclasses.replace(
                config.training,
                stream=place,
                perturbation=perturbation,
                interval=interval,
                members=config.periodic_members,
                target=study.target,
                snapshots=(),
            )
            # Its weight in the progress: perturbed runs need about as long as unperturbed ones, or less.
            work = round(training.members * study.survival.restricted_mean(training.epochs).value)
            tasks[place] = _Ensemble(training, study.directory / place, place, work)
        if perturbation["name"] == "full_reset":
            continue
        for epoch in config.branch_epochs:
            place = _once_place(label, epoch)
            training = dataclasses.replace(
                config.training,
                stream=place,
                perturbation=perturbation,
                epochs=config.follow,
                target=study.target,
                snapshots=(),
            )
            parents = _survivors(study, epoch)
            work = len(parents) * config.follow
            branch = Branch(study.directory / UNPERTURBED, epoch, parents)
            tasks[place] = _Ensemble(training, study.directory / place, place, work, branch)
    return tasks


def _survivors(study: Study, epoch: int) -> list[int]:
    """Members that had not reached the target at an epoch, and went on training after it."""
    unfinished = (study.first_passages.times > epoch) & (study.unperturbed.epochs > epoch)
    members = study.unperturbed.members[unfinished].tolist()
    if len(members) < 2:
        raise ValueError(
            f"only {len(members)} runs are unfinished at epoch {epoch}, so there is nothing to perturb: raise the "
            f"target {study.target:g} or lower branch_epochs, and use another directory"
        )
    return members


def _protocol(study: Study, label: str, ensembles: Mapping[str, EnsembleResult]) -> Protocol:
    perturbation = study.config.perturbations[label]
    once = tuple(
        _perturbed_once(study, epoch, ensembles[_once_place(label, epoch)])
        for epoch in study.config.branch_epochs
        if perturbation["name"] != "full_reset"
    )
    periodic = tuple(
        _periodic(study, interval, ensembles[_periodic_place(label, interval)]) for interval in study.config.intervals
    )
    return Protocol(label, perturbation, once, _predictions(study, once), periodic)


def _perturbed_once(study: Study, epoch: int, ensemble: EnsembleResult) -> PerturbedOnceRun:
    residuals = _first_passages(ensemble, study.target)
    assert ensemble.parents is not None
    parents = np.searchsorted(study.unperturbed.members, ensemble.parents)
    data = PerturbedOnce(residuals, epoch, study.config.follow, parents)
    return PerturbedOnceRun(epoch, ensemble, data, Survival.of(residuals))


def _periodic(study: Study, interval: int, ensemble: EnsembleResult) -> PeriodicRun:
    first_passages = _first_passages(ensemble, study.target)
    residuals = first_passages.times[first_passages.times > interval] - interval
    reached = ensemble.test_accuracy[ensemble.status == "reached"]
    return PeriodicRun(
        interval,
        ensemble,
        Survival.of(first_passages),
        Estimate.from_samples(residuals) if len(residuals) > 1 else None,
        Estimate.from_samples(reached) if len(reached) > 1 else None,
    )


def _recovery_epoch(study: Study, once: PerturbedOnceRun) -> int | None:
    """First epoch after the perturbation at which unfinished runs look like the quasi-steady state again."""
    if study.quasi_steady_state is None:
        return None
    distance = distance_to(
        once.ensemble.curves["validation_accuracy"],
        once.data.residuals,
        study.unperturbed.curves["validation_accuracy"],
        study.first_passages,
        reference=study.quasi_steady_state.reference,
    )
    within = np.flatnonzero(distance <= study.config.tolerance)
    return int(within[0]) + 1 if len(within) else None


def _predictions(study: Study, once: Sequence[PerturbedOnceRun]) -> dict[str, tuple[Prediction, ...]]:
    """Predictions at every interval up to the last one followed (up to the horizon for full resetting)."""
    config = study.config
    horizon = config.training.epochs
    if not once:
        data = _data(study, None)
        return {"restart": data.predictions("restart", range(1, horizon + 1))}
    *earlier, last = (_data(study, run) for run in once)
    recovery = _recovery_epoch(study, once[-1])
    result = {}
    intervals = range(1, min(config.follow, horizon) + 1)
    for predictor in ("rare", "renewal"):
        of_earlier = [data.predictions(predictor, intervals) for data in earlier]
        predictions = []
        for i, prediction in enumerate(last.predictions(predictor, intervals, relaxation_epoch=study.relaxation_epoch)):
            interval = prediction.interval
            others = [of_epoch[i] for of_epoch in of_earlier] if interval < config.branch_epoch else []
            transfer = transfer_reasons(
                prediction, others, branch_epoch=config.branch_epoch, hazard_test=study.hazard_test
            )
            reasons = [*prediction.reasons, *transfer]
            renews = last.residual_psi is not None and last.residual_psi[interval] > LONG_RESIDUALS
            if predictor == "renewal" and renews and (recovery is None or interval < recovery):
                when = "while they were followed" if recovery is None else f"before {recovery} epochs have passed"
                reasons.append(f"perturbed runs are not back in the quasi-steady state {when}")
            predictions.append(dataclasses.replace(prediction, reasons=tuple(reasons)))
        result[predictor] = tuple(predictions)
    return result


def _data(study: Study, once: PerturbedOnceRun | None) -> PerturbationData:
    return PerturbationData(
        study.first_passages,
        None if once is None else once.data,
        horizon=study.config.training.epochs,
        replicates=study.config.replicates,
        rng=stream(study.config.training.seed, "bootstrap"),
    )


def with_comparisons(study: Study) -> Study:
    """The study with every measurement held against the predictions at its interval.

    Restricted means are compared, at the horizon up to which the predictor is identified: they exist although some runs
    never reach the target. Eq. (9) and renewal are granted a model error of 5 % inside their regimes.

    Args:
        study: with its protocols.

    Returns:
        The study with ``comparisons`` and ``rows``; verdicts hold at a family-wise error rate of 1 %.
    """
    comparisons, rows = [], []
    for protocol in study.protocols:
        for run in protocol.periodic:
            for predictor, predictions in protocol.predictions.items():
                prediction = next((p for p in predictions if p.interval == run.interval), None)
                if prediction is None:
                    continue
                measured = run.survival.restricted_mean(prediction.horizon)
                quantity = f"E[min(T_P, {prediction.horizon})], {protocol.label}, P={run.interval}, {predictor}"
                margin = 0.0 if predictor == "restart" else APPROXIMATION_MARGIN
                comparisons.append(
                    compare(quantity, prediction.restricted_mean, measured, margin=margin, reasons=prediction.reasons)
                )
                rows.append((protocol.label, predictor, run.interval, prediction.horizon))
    return dataclasses.replace(study, comparisons=tuple(holm(comparisons)), rows=tuple(rows))
