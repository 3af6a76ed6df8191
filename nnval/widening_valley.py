"""Does anti-correlated noise lead to flatter networks, and do these generalise better? Four noises beside each other.

SGD with batches drawn with replacement or reshuffled, and full-batch descent with white (PGD) or anti-correlated noise
(Anti-PGD) train the same networks on the same data. During training the trace of the Hessian (by random probes, the
same for all methods) and the test accuracy are measured; at the end methods are compared seed by seed. The theory of
the valley, where white noise climbs and its increments flatten, is in theory.widening_valley. Injected noise of size
sigma acts as the regulariser (sigma^2 / 2) Tr H while it is anti-correlated; whether a network follows is measured.

    RUN/config.json, environment.json   see nnval.engine.run_directory; no done.json: a run is complete when all are
        seeds/0003/anti_pgd.json        what was measured; written when that training is over
        seeds/0003/anti_pgd.pt          its checkpoint before that

Seeds can be added later: members are no part of ``config.json``.

Reference: [orvieto2022] arXiv 2202.02831 for Anti-PGD; [kuhn2023] for the anti-correlation of reshuffled batches
"""

import copy
import dataclasses
import io
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nnval.engine import run_directory as disk
from nnval.engine.config import TrainingConfig, fingerprint_of
from nnval.engine.datasets import load_data
from nnval.engine.device import deterministic_algorithms, environment, resolve_device, thread_count
from nnval.engine.loop import InitialWeights
from nnval.engine.models import build_model
from nnval.engine.stopping import Stop, stop_on_interrupt
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian_trace import hessian_trace
from nnval.noisy_descent import NoisyDescent
from nnval.widening_valley_study import MethodCurves, WideningValley, WideningValleyConfig, paired_differences
from sim.batch_order import batches_per_epoch
from sim.random_streams import CountedStream, stream

Progress = Callable[[int, int, str], None]

MEASURED = ("trace", "probe_error", "train_loss", "test_accuracy")
"""Columns of what was measured, beside the epoch."""

SEEDS = "seeds"

_VALUES_OF_ALL_PROBES = 2**19
"""Input values times random vectors that a small network differentiates at once."""


def run_widening_valley(
    config: WideningValleyConfig,
    directory: str | Path,
    *,
    progress: Progress | None = None,
    checkpoint_seconds: float = 5.0,
    threads: int | None = 1,
) -> WideningValley:
    """Train all methods from all seeds, measure and compare; or go on with that, or read what is finished.

    Args:
        config: what to do.
        directory: of the run: absent, empty, or holding this very experiment, maybe with other seeds.
        progress: called with completed and all trainings' epochs, and a text. It may raise Interrupted.
        checkpoint_seconds: at least so far apart are checkpoints within a training; 0 saves after each epoch. It does
            not affect the result.
        threads: of torch; None leaves torch's setting.

    Returns:
        The result. A finished run is only read.

    Raises:
        ValueError: for data or networks that this can't be done with (Dropout, BatchNorm), or if a training diverges.
        RunDirectoryError: (a ValueError) if the directory holds something else, or is in use.
        StorageError: (an OSError) if a file cannot be written; the run can be resumed.
        Interrupted: after Ctrl-C, when the epoch was completed and saved; the run can be resumed.
    """
    experiment = _Experiment(config, Path(directory), progress, checkpoint_seconds)
    if disk.check_run(experiment.directory, experiment.description) and experiment.complete:
        return experiment.result()
    with (
        thread_count(threads),
        stop_on_interrupt() as stop,
        disk.opened(experiment.directory, experiment.description, environment(experiment.device)),
        deterministic_algorithms(config.training.deterministic, experiment.device),
    ):
        try:
            experiment.run(stop)
        except KeyboardInterrupt:
            raise disk.Interrupted(
                "stopped at once; run the same command again to go on from the last checkpoint"
            ) from None
    return experiment.result()


def _settled(training: TrainingConfig, directory: Path) -> tuple[TrainingConfig, torch.device]:
    """The training with device and check sum of the data filled in."""
    name = training.device
    if name == "auto" and (directory / disk.CONFIG).is_file():  # another device would round otherwise
        name = disk.read_description(directory)["config"].get("device", name)
    device = resolve_device(name)
    data = load_data(training)
    if batches_per_epoch(len(data.train), training.batch_size) < 2:
        raise ValueError(
            f"batch_size={training.batch_size} of {len(data.train)} training samples gives one batch per epoch: at "
            "least 2 are needed, or there is no order of batches; lower batch_size"
        )
    return dataclasses.replace(training, device=str(device), data_sha256=data.sha256), device


class _Experiment:
    """One run directory and what belongs into it."""

    def __init__(
        self, config: WideningValleyConfig, directory: Path, progress: Progress | None, checkpoint_seconds: float
    ) -> None:
        if not checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds={checkpoint_seconds} must be >= 0; 0 saves after each epoch")
        training, self.device = _settled(config.training, directory)
        self.config = dataclasses.replace(config, training=training)
        self.directory = directory
        self._progress, self._checkpoint_seconds = progress, checkpoint_seconds
        plain = self.config.to_dict()
        fields = {name: value for name, value in plain.pop("training").items() if name not in disk.OF_MEMBERS}
        described = {"experiment": "widening-valley", **fields, **plain}
        affecting = {name: value for name, value in described.items() if name not in disk.WITHOUT_EFFECT}
        self.description = {
            "schema": disk.SCHEMA,
            "fingerprint": fingerprint_of(affecting),
            "config": described,
            "branch": None,
        }
        self._tasks = [(member, method) for member in self.config.members for method in self.config.methods]

    def path(self, member: int, method: str, ending: str = "json") -> Path:
        return self.directory / SEEDS / f"{member:04d}" / f"{method}.{ending}"

    @property
    def complete(self) -> bool:
        return all(self.path(*task).exists() for task in self._tasks)

    def run(self, stop: Stop) -> None:
        epochs = self.config.training.epochs
        done = 0
        for member in self.config.members:
            methods = [method for method in self.config.methods if not self.path(member, method).exists()]
            done += (len(self.config.methods) - len(methods)) * epochs
            seed = _Seed(self.config, member, self.device) if methods else None
            for method in methods:
                assert seed is not None
                disk.make_directory(self.path(member, method).parent)
                self._train(seed, method, done, stop)
                done += epochs

    def _train(self, seed: "_Seed", method: str, done: int, stop: Stop) -> None:
        training, total = self.config.training, len(self._tasks) * self.config.training.epochs
        checkpoint = self.path(seed.member, method, "pt")
        network, rows = seed.network(method), []
        if checkpoint.exists():
            state = _read(checkpoint)
            network.load_state_dict(state["network"])
            rows = state["rows"]
        else:
            rows.append(seed.measured(network, method))

        def save() -> None:
            content = io.BytesIO()
            torch.save({"network": network.state_dict(), "rows": rows}, content)
            disk.write_whole(checkpoint, content.getvalue())

        due = time.monotonic() + self._checkpoint_seconds
        while network.epoch < training.epochs:
            network.train_epoch()
            if not network.finite():
                raise ValueError(
                    f"{method} diverged in epoch {network.epoch} from seed {seed.member}: lower learning_rate="
                    f"{training.learning_rate:g} or noise_scale={self.config.noise_scale:g}, in another directory"
                )
            if network.epoch in self.config.epochs:
                rows.append(seed.measured(network, method))
            try:
                if self._progress is not None:
                    self._progress(done + network.epoch, total, f"seed {seed.member}, {method}")
            except (KeyboardInterrupt, disk.Interrupted):  # here the state is whole
                stop.request()
            if stop.requested:
                save()
                raise disk.Interrupted(
                    f"stopped after epoch {network.epoch} of {method}, seed {seed.member}; run the same command again "
                    "to go on"
                )
            if time.monotonic() >= due:
                save()
                due = time.monotonic() + self._checkpoint_seconds
        columns = {name: [row[name] for row in rows] for name in ("epoch", *MEASURED)}
        disk.write_json(self.path(seed.member, method), {"weights": seed.weights, **columns})
        disk.remove(checkpoint)

    def result(self) -> WideningValley:
        """What the files say."""
        curves, weights = [], set()
        for method in self.config.methods:
            found = [disk.read_json(self.path(member, method)) for member in self.config.members]
            for member, each in zip(self.config.members, found, strict=True):
                if not isinstance(each, dict) or each.get("epoch") != list(self.config.epochs):
                    path = self.path(member, method)
                    raise disk.RunDirectoryError(f"{path} is damaged: remove it to train that network again")
                weights.add(each["weights"])
            curves.append(MethodCurves(method, *(np.array([each[name] for each in found]) for name in MEASURED)))
        return WideningValley(
            config=self.config,
            directory=self.directory,
            weights=weights.pop(),
            epochs=self.config.epochs,
            curves=tuple(curves),
            differences=paired_differences(curves),
        )


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        return torch.load(io.BytesIO(checkpoint.read_bytes()), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
        raise disk.RunDirectoryError(
            f"cannot read {checkpoint}: {error}; remove it to train that network anew"
        ) from error


class _Seed:
    """Initial weights and data that all methods share."""

    def __init__(self, config: WideningValleyConfig, member: int, device: torch.device) -> None:
        self._config, self.member, self._device = config, member, device
        training = config.training
        data = load_data(dataclasses.replace(training, data_seed=training.data_seed + member))
        self._data = data.to(device)
        self._module = build_model(training, data.shape, data.classes)
        train = self._data.train
        self._loss = FullLoss(
            self._module,
            train,
            train.labels,
            dtype=torch.float32,
            # By default small networks would spend their time between chunks.
            chunk=max(1024, _VALUES_OF_ALL_PROBES // train.pixels[0].numel()) if device.type == "cpu" else None,
            device=device,
        )
        self.weights = self._loss.size

    def _name(self, purpose: str) -> str:
        return f"{self._config.training.stream}/{purpose}"

    def network(self, method: str) -> NoisyDescent:
        """A network at the beginning of its training."""
        training, seed = self._config.training, self._config.training.seed
        draw = CountedStream(seed, self._name("initialisation"), self.member).seed_at(0)
        parameters, buffers = InitialWeights(self._module, training.initialisation, self._device)(draw)
        module = copy.deepcopy(self._module).to(self._device)
        module.load_state_dict({**parameters, **buffers})
        injected = CountedStream(seed, self._name(f"{method}/weight_noise"), self.member).seed_at(0)
        return NoisyDescent(
            module,
            self._data.train,
            method,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            noise_scale=self._config.noise_scale,
            distribution=self._config.distribution,
            rng=stream(seed, self._name(f"{method}/batch_order"), self.member),
            generator=torch.Generator(self._device).manual_seed(injected),
        )

    def measured(self, network: NoisyDescent, method: str) -> dict[str, float]:
        """The epoch and ``MEASURED``."""
        with network.without_injected_noise():
            weights = torch.cat([each.detach().reshape(-1) for each in network.module.parameters()])
            accuracy = self._accuracy(network.module)
        if network.epoch == 0:
            self._loss.irreproducibility(weights)  # refuses a loss that is no function of the weights
        # The same probes for all methods: their errors have much in common, and cancel in differences.
        probes = stream(self._config.training.seed, self._name("probes"), self.member, network.epoch)
        trace = hessian_trace(self._loss, weights, self._config.probes, probes)
        return {
            "epoch": network.epoch,
            "trace": trace.value,
            "probe_error": trace.standard_error,
            "train_loss": self._loss.value(weights),
            "test_accuracy": accuracy,
        }

    @torch.no_grad()
    def _accuracy(self, module: nn.Module) -> float:
        right = sum(int((module(inputs).argmax(1) == labels).sum()) for inputs, labels in self._data.test.chunks(1024))
        return right / len(self._data.test)
