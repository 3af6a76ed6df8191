"""Eigenpairs of the Hessian of a network's mean loss."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.engine.run_directory import RunDirectoryError
from nnval.measure import krylov_files
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian import Eigenpairs, basis_bytes, eigenpairs
from nnval.measure.lanczos import Solver
from sim.random_streams import stream
from tests.loss_networks import IMAGES, naive_value, network, trained_network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained() -> tuple[FullLoss, torch.Tensor, np.ndarray]:
    return trained_network()


def check_pairs(found: Eigenpairs, dense: np.ndarray, expected: np.ndarray) -> None:
    scale = np.abs(np.linalg.eigvalsh(dense)).max()
    np.testing.assert_allclose(found.curvatures, expected, rtol=1e-8, atol=1e-11 * scale)
    directions = found.directions.double().cpu().numpy()
    np.testing.assert_allclose(directions @ directions.T, np.eye(len(directions)), atol=1e-12)
    residuals = np.linalg.norm(directions @ dense - found.curvatures[:, None] * directions, axis=1)
    assert (residuals <= 1e-10 * scale).all()
    np.testing.assert_allclose(found.residuals, residuals, atol=1e-13 * scale)
    assert found.converged.all()
    assert found.confirmed


@pytest.mark.parametrize("basis", [None, 28])
def test_largest_eigenpairs_are_those_of_the_dense_hessian(trained, basis: int | None) -> None:
    loss, weights, dense = trained
    found = eigenpairs(loss, weights, 12, rng=stream(0, "start"), basis=basis, block=4)
    check_pairs(found, dense, np.linalg.eigvalsh(dense)[::-1][:12])
    assert found.irreproducibility == 0


def test_smallest_eigenpairs_are_negative_ones(trained) -> None:
    loss, weights, dense = trained
    expected = np.linalg.eigvalsh(dense)[:8][::-1]
    assert (expected < 0).all()
    check_pairs(eigenpairs(loss, weights, 8, rng=stream(0, "start"), smallest=True, basis=80), dense, expected)


@pytest.mark.parametrize(("near", "basis", "block"), [(0.0, None, 8), (0.02, None, 8), (0.7, 30, 2)])
def test_eigenpairs_near_a_value(trained, near: float, basis: int | None, block: int) -> None:
    loss, weights, dense = trained
    spectrum = np.linalg.eigvalsh(dense)
    expected = np.sort(spectrum[np.argsort(np.abs(spectrum - near))[:4]])[::-1]
    found = eigenpairs(loss, weights, 4, rng=stream(0, "start"), near=near, basis=basis, block=block)
    check_pairs(found, dense, expected)
    assert (found.products > 280) == (basis is not None) or basis is None


def test_all_eigenpairs_with_the_zero_modes(trained) -> None:
    loss, weights, dense = trained
    spectrum = np.linalg.eigvalsh(dense)[::-1]
    # A number added to all logits changes nothing: 11 directions of zero curvature.
    assert (np.abs(spectrum) < 1e-12).sum() >= 11
    check_pairs(eigenpairs(loss, weights, loss.size, rng=stream(0, "start")), dense, spectrum)


def test_no_copy_of_a_multiple_eigenvalue_is_missed() -> None:
    # Nine copies of every eigenvalue, three vectors in a block: one Krylov space holds three copies.
    module = nn.Linear(4, 9, bias=False)
    inputs = torch.from_numpy(stream(0, "inputs").standard_normal((50, 4)) * [3.0, 2.0, 1.0, 0.5])
    squares = {"loss": lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2}
    loss = FullLoss(module, inputs, torch.zeros(50, 9), **squares)
    expected = np.repeat(np.linalg.eigvalsh((inputs.T @ inputs / 50).numpy())[::-1], 9)
    found = eigenpairs(loss, loss.weights, 15, rng=stream(0, "start"), block=3, basis=22)
    np.testing.assert_allclose(found.curvatures, expected[:15], rtol=1e-10)
    assert found.confirmed
    # Without the cycles that confirm, the answer would be wrong, and says that it may be.
    hasty = eigenpairs(loss, loss.weights, 15, rng=stream(0, "start"), block=3, basis=22, cycles=1)
    assert not hasty.confirmed
    assert abs(hasty.curvatures[8] / expected[8] - 1) > 0.1


def test_equal_hidden_units_make_equal_eigenvalues() -> None:
    module = network()
    with torch.no_grad():
        for unit in (4, 7, 9):
            module[2].weight[unit], module[2].bias[unit] = module[2].weight[1], module[2].bias[1]
            module[4].weight[:, unit] = module[4].weight[:, 1]
    loss = FullLoss(module, IMAGES, IMAGES.labels)
    dense = torch.autograd.functional.hessian(lambda at: naive_value(module, at), loss.weights)
    assert isinstance(dense, torch.Tensor)
    spectrum = np.linalg.eigvalsh(dense.numpy())[::-1]
    multiplicity = (np.abs(spectrum[:, None] - spectrum[:20]) < 1e-12).sum(axis=0)
    found = eigenpairs(loss, loss.weights, 20, rng=stream(0, "start"), block=2, basis=40)
    assert (multiplicity > 1).sum() >= 3  # threefold: the differences of four units
    check_pairs(found, dense.numpy(), spectrum[:20])


def test_too_few_steps_are_not_called_converged(trained) -> None:
    loss, weights, dense = trained
    found = eigenpairs(loss, weights, 12, rng=stream(0, "start"), basis=28, block=4, cycles=1)
    assert not found.confirmed
    assert not found.converged.all()
    assert found.residuals.max() > 1e-4
    directions = found.directions.numpy()
    residuals = np.linalg.norm(directions @ dense - found.curvatures[:, None] * directions, axis=1)
    np.testing.assert_allclose(found.residuals, residuals, rtol=1e-6, atol=1e-13)
    np.testing.assert_array_equal(found.converged, residuals <= found.tolerance * found.norm)


def test_single_precision_says_what_it_reached(trained) -> None:
    _, weights, dense = trained
    loss = FullLoss(network(), IMAGES, IMAGES.labels, dtype=torch.float32)
    found = eigenpairs(loss, weights, 12, rng=stream(0, "start"))
    assert found.converged.all()
    assert found.tolerance == 1e-5
    np.testing.assert_allclose(found.curvatures, np.linalg.eigvalsh(dense)[::-1][:12], rtol=1e-5)
    impossible = eigenpairs(loss, weights, 12, rng=stream(0, "start"), tolerance=1e-12, cycles=3)
    assert not impossible.converged.any()


def test_one_generator_gives_one_answer(trained) -> None:
    loss, weights, _ = trained
    first, again, other = (eigenpairs(loss, weights, 5, rng=stream(seed, "start")) for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other)
    np.testing.assert_allclose(first.directions, other.directions, atol=1e-8)  # signs too


def same(first: Eigenpairs, second: Eigenpairs) -> bool:
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return all(bool(torch.equal(torch.as_tensor(a), torch.as_tensor(b))) for a, b in pairs)


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "options",
    [{"basis": 28, "block": 4}, {"near": 0.7, "filter_degree": 6, "basis": 10, "block": 2, "cycles": 4}],
    ids=["largest", "near"],
)
def test_goes_on_after_a_stop_to_the_same_bits(trained, tmp_path: Path, options: dict) -> None:
    loss, weights, _ = trained

    def wanted(**more: Any) -> Eigenpairs:
        return eigenpairs(loss, weights, 2, rng=stream(0, "start"), **options, **more)

    whole: list[str] = []
    expected = wanted(progress=lambda *what: whole.append(what[2]))
    for steps in (1, 5, 9):
        state, calls = tmp_path / f"state{steps}", []

        def stop(*_: Any, calls: list[None] = calls, steps: int = steps) -> None:
            calls.append(None)
            if len(calls) > steps:
                raise Stop

        with pytest.raises(Stop):
            wanted(state=state, progress=stop)
        assert not (state / krylov_files.RESULT).exists()
        told: list[str] = []
        resumed = wanted(state=state, progress=lambda *what, told=told: told.append(what[2]))
        assert same(resumed, expected)
        assert len(told) == len(whole) - steps  # what was done is not done again
        # What is finished is read.
        assert sorted(path.name for path in state.iterdir()) == [krylov_files.RESULT, krylov_files.PROBLEM]
        assert same(resumed, wanted(state=state, progress=stop))


def test_a_saved_basis_of_something_else_is_refused(trained, tmp_path: Path) -> None:
    loss, weights, _ = trained
    eigenpairs(loss, weights, 3, rng=stream(0, "start"), state=tmp_path / "a")
    for change in (
        {"count": 4},
        {"smallest": True},
        {"rng": stream(1, "start")},
        {"weights": 1.01 * weights},
        {"tolerance": 1e-9},
    ):
        call: dict[str, Any] = {"weights": weights, "count": 3, "rng": stream(0, "start")} | change
        with pytest.raises(RunDirectoryError, match="holds eigenpairs of something else"):
            eigenpairs(loss, state=tmp_path / "a", **call)
    other = FullLoss(network(), IMAGES, IMAGES.labels, loss=lambda y, x: F.cross_entropy(2 * y, x, reduction="sum"))
    with pytest.raises(RunDirectoryError, match="holds eigenpairs of something else"):
        eigenpairs(other, weights, 3, rng=stream(0, "start"), state=tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").touch()
    with pytest.raises(RunDirectoryError, match=r"notes.txt.*choose a new directory"):
        eigenpairs(loss, weights, 3, rng=stream(0, "start"), state=tmp_path / "b")
    assert json.loads((tmp_path / "a" / krylov_files.PROBLEM).read_text())["count"] == 3
    (tmp_path / "a" / krylov_files.RESULT).write_bytes(b"PK damaged")
    with pytest.raises(RunDirectoryError, match=r"cannot read .* to begin anew"):
        eigenpairs(loss, weights, 3, rng=stream(0, "start"), state=tmp_path / "a")


def test_memory_is_said_before_and_refused_beyond_a_limit(trained) -> None:
    loss, weights, _ = trained
    told: list[tuple[int, int, str]] = []
    eigenpairs(loss, weights, 3, rng=stream(0, "start"), progress=lambda *what: told.append(what))
    assert told[0] == (0, 51, "51 vectors of 280 numbers: 0 MiB")
    assert told[-1][2].startswith("cycle ")
    assert basis_bytes(loss, 3) == (51 + 3 + 48) * 280 * 8
    with pytest.raises(
        ValueError, match=r"51 vectors of 280 numbers need .* GiB, above memory=1e\+05 bytes: ask for fewer"
    ):
        eigenpairs(loss, weights, 3, rng=stream(0, "start"), memory=1e5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0 must be a whole number >= 1"),
        ({"count": 281}, "count=281 must be at most 280"),
        ({"smallest": True, "near": 1.0}, "give one of them"),
        ({"near": math.nan}, "near=nan must be finite"),
        ({"near": 50.0, "basis": 30, "block": 2}, "near=50.0 lies outside of the spectrum"),
        ({"near": 0.5, "basis": 30, "block": 2, "filter_degree": 1}, "filter_degree=1 must lie between"),
        ({"tolerance": 0.0}, "tolerance=0.0 must satisfy"),
        ({"basis": 10}, "basis=10 must lie between 19"),
        ({"cycles": 0}, "cycles=0 must be a whole number >= 1"),
    ],
)
def test_eigenpairs_refuse(trained, options: dict, message: str) -> None:
    loss, weights, _ = trained
    with pytest.raises(ValueError, match=message):
        eigenpairs(loss, weights, **({"count": 3, "rng": stream(0, "start")} | options))


def test_lanczos_restarts_on_a_spectrum_like_that_of_a_network() -> None:
    rng = stream(0, "spectrum")
    bulk = [1 / np.arange(2, 502) ** 1.2, -0.05 / np.arange(1, 200), 1e-9 * rng.standard_normal(300)]
    spectrum = np.sort(np.concatenate([rng.uniform(1, 10, 9), *bulk]))[::-1].copy()
    diagonal = torch.from_numpy(spectrum)
    told: list[str] = []
    solver = Solver(
        apply=lambda vectors: vectors * diagonal,
        size=len(spectrum),
        count=30,
        block=8,
        capacity=56,
        tolerance=1e-10,
        cycles=200,
        key=(1, 2),
        like=torch.zeros(1, dtype=torch.float64),
        progress=lambda done, total, text: told.append(text),
    )
    ritz = solver.solve()
    assert ritz.confirmed
    assert int(told[-1].split(",")[0].removeprefix("cycle ")) >= 5
    np.testing.assert_allclose(ritz.values, spectrum[:30], rtol=1e-12)


@pytest.mark.gpu
def test_gpu_gives_the_eigenvalues_of_the_cpu(trained) -> None:
    _, weights, dense = trained
    there = FullLoss(network(), IMAGES, IMAGES.labels, device="cuda")
    found = eigenpairs(there, weights.cuda(), 12, rng=stream(0, "start"))
    assert found.directions.is_cuda
    check_pairs(found, dense, np.linalg.eigvalsh(dense)[::-1][:12])
