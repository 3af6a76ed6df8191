"""The sampled mean-field solution against the exact one of the square loss; its errors, refusals and files."""

from pathlib import Path

import numpy as np
import pytest

import theory.mean_field
from sim.random_streams import stream
from theory.batch_selection import BernoulliBatches, FullBatch, PersistentBatches, ReshuffledBatches
from theory.estimate import Estimate, agreement
from theory.mean_field import cost, solve_mean_field
from theory.mean_field_ridge import RidgeMeanField, solve_ridge
from theory.mean_field_solution import MeanFieldSolution, resolved
from theory.mixture_model import MixturePerceptron, PerceptronTraining

RIDGE = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
HINGE = MixturePerceptron(sample_ratio=1.5, noise_variance=1.0, loss="squared_hinge")
TRAINING = PerceptronTraining(learning_rate=0.4)
SGD = BernoulliBatches(0.25)
STEPS = 10
QUESTIONS = {
    "overlap": (10,),
    "correlation": (10, 10),
    "response": (10, 5),
    "train_loss": (9,),
    "replica_distance": (10,),
    "test_error": (10,),
    "squared_slope": (5,),
}
DETECTS = {"response": 0.02, "replica_distance": 0.15}


def exact(question: str, solution: RidgeMeanField) -> float:
    return float(getattr(solution, question)[QUESTIONS[question]])


@pytest.fixture(scope="module")
def many() -> MeanFieldSolution:
    """200 small populations: their mean knows a bias, and that the errors are right."""
    return solve_mean_field(RIDGE, TRAINING, SGD, STEPS, stream(0, "many"), particles=160, populations=200, replicas=2)


@pytest.mark.parametrize("question", QUESTIONS)
def test_agrees_with_the_exact_solution(question: str, many: MeanFieldSolution) -> None:
    samples = many.samples(question, *QUESTIONS[question])
    detects = DETECTS.get(question, 0.05)
    assert agreement(samples, exact(question, solve_ridge(RIDGE, TRAINING, SGD, STEPS)), detects=detects)
    # Forces divided by the batch fraction, as other authors have them.
    wrong = MixturePerceptron(RIDGE.sample_ratio, RIDGE.noise_variance, weight_decay=0.5 * 0.25)
    assert not agreement(samples, exact(question, solve_ridge(wrong, PerceptronTraining(0.4 / 0.25), SGD, STEPS)))


@pytest.mark.parametrize("question", ["correlation", "replica_distance", "train_loss"])
def test_noise_of_the_batches_is_seen(question: str, many: MeanFieldSolution) -> None:
    without = solve_ridge(RIDGE, TRAINING, FullBatch(0.25), STEPS)
    assert not agreement(many.samples(question, *QUESTIONS[question]), exact(question, without))


def test_the_memory_of_a_sample_is_seen(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Without the response term, as if samples were new in every update, the exact solution rejects the sampled one."""
    monkeypatch.setattr(theory.mean_field._ParticlePass, "_weights", lambda self: np.zeros(self.state.time))
    wrong = solve_mean_field(RIDGE, TRAINING, SGD, STEPS, stream(seed, "online"), particles=80, populations=200)
    right = solve_ridge(RIDGE, TRAINING, SGD, STEPS)
    for question in ("overlap", "correlation", "response", "train_loss"):
        assert not agreement(wrong.samples(question, *QUESTIONS[question]), exact(question, right)), question


@pytest.mark.parametrize(
    ("training", "model"),
    [
        (PerceptronTraining(0.2, momentum=0.6, initial_overlap=-0.5, initial_spread=0.7), RIDGE),
        (PerceptronTraining(0.6), MixturePerceptron(sample_ratio=0.5, noise_variance=0.5)),
    ],
)
def test_within_two_percent(training: PerceptronTraining, model: MixturePerceptron, seed: int) -> None:
    right = solve_ridge(model, training, SGD, 25)
    other = solve_ridge(model, training, BernoulliBatches(0.3), 25)  # 0.25 is right
    found = solve_mean_field(model, training, SGD, 25, stream(seed, "few"), particles=4000, populations=6)
    for name, error in (("overlap", 0.02), ("correlation", 0.03), ("response", 0.02)):
        assert found.samples(name).mean(axis=0) == pytest.approx(
            getattr(right, name), rel=error, abs=error * abs(getattr(right, name)).max()
        ), name
    for question, index in {
        "overlap": (25,),
        "correlation": (25, 25),
        "response": (25, 15),
        "train_loss": (25,),
    }.items():
        estimate = found.estimate(question, *index)
        value = float(getattr(right, question)[index])
        assert abs(estimate.value - value) < 10 * estimate.standard_error + 1e-3 * abs(value), question
        assert estimate.value == pytest.approx(value, rel=0.02), question
        assert estimate.value != pytest.approx(float(getattr(other, question)[index]), rel=0.01), question


def test_gradient_descent(seed: int) -> None:
    right = solve_ridge(RIDGE, TRAINING, FullBatch(), 20)
    found = solve_mean_field(
        RIDGE, TRAINING, FullBatch(), 20, stream(seed, "descent"), particles=800, populations=3, replicas=2
    )
    assert abs(found.replica_distance).max() < 1e-12
    # The normal numbers have no error in their second moments, so neither has a linear theory without batches.
    np.testing.assert_allclose(found.response, np.stack([right.response] * 3), atol=1e-5)
    np.testing.assert_allclose(found.overlap, np.stack([right.overlap] * 3), atol=1e-5)
    np.testing.assert_allclose(found.correlation, np.stack([right.correlation] * 3), atol=1e-5)
    np.testing.assert_allclose(found.train_loss, np.stack([right.train_loss] * 3), atol=1e-5)


def test_persistence_of_no_memory_is_sgd(seed: int) -> None:
    """tau = eta / b: the same paths from the same random numbers."""
    sgd, same, other = (
        solve_mean_field(HINGE, TRAINING, selection, 8, stream(seed, "tau"), particles=800, populations=2).correlation
        for selection in (SGD, PersistentBatches(0.25, 1.6), PersistentBatches(0.25, 6.4))
    )
    np.testing.assert_allclose(same, sgd, rtol=1e-12)
    assert (other[:, 8, 8] > 1.02 * sgd[:, 8, 8]).all() or (other[:, 8, 8] < 0.98 * sgd[:, 8, 8]).all()


def test_boundary_width_and_accuracy_are_those_of_the_fields(seed: int) -> None:
    """At t = 0 margins are normal: everything known in closed form."""
    training = PerceptronTraining(0.4, initial_overlap=0.5)
    found = solve_mean_field(HINGE, training, SGD, 2, stream(seed, "start"), particles=40000, populations=2)
    norm = 1.25
    assert found.estimate("train_accuracy", 0).value == pytest.approx(1 - found.test_error[0, 0], abs=0.01)
    for k, quantile in enumerate((-2.326348, -1.281552, 0.0)):
        assert found.estimate("margin_quantiles", 0, k).value == pytest.approx(
            (0.5 + np.sqrt(norm) * quantile) / np.sqrt(norm), abs=0.03
        )


# ---- Control ---------------------------------------------------------------------------------------------------------


def test_same_seed_same_answer() -> None:
    one, two = (
        solve_mean_field(HINGE, TRAINING, ReshuffledBatches(4), 8, stream(3, "twice"), particles=80, populations=n)
        for n in (2, 3)
    )
    assert (one.correlation == two.correlation[:2]).all()
    assert not (two.correlation[2] == two.correlation[1]).all()


def test_progress() -> None:
    told: list[tuple[int, int, str]] = []
    solve_mean_field(
        RIDGE, TRAINING, SGD, 3, stream(0, "x"), particles=16, populations=2, progress=lambda *now: told.append(now)
    )
    assert told == [(k, 6, "mean field") for k in range(1, 7)]


def test_what_is_complete_survives_an_interruption() -> None:
    def stop_at(step: int):
        def stop(done: int, total: int, what: str) -> None:
            if done == step:
                raise KeyboardInterrupt

        return stop

    whole = solve_mean_field(RIDGE, TRAINING, SGD, 4, stream(0, "x"), particles=24, populations=5)
    part = solve_mean_field(RIDGE, TRAINING, SGD, 4, stream(0, "x"), particles=24, populations=5, progress=stop_at(14))
    assert part.overlap.shape == (3, 5)
    assert part.populations_asked == 5
    assert (part.correlation == whole.correlation[:3]).all()
    with pytest.raises(KeyboardInterrupt):
        solve_mean_field(RIDGE, TRAINING, SGD, 4, stream(0, "x"), particles=24, populations=5, progress=stop_at(7))


def test_cost_counts_what_is_held() -> None:
    import tracemalloc

    tracemalloc.start()
    solve_mean_field(HINGE, TRAINING, SGD, 40, stream(0, "x"), particles=2000, populations=2, replicas=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert cost(40, 2000, 2, replicas=2).memory == pytest.approx(peak, rel=0.3)
    # In the end as the third power of the steps; the square would be 4.
    assert cost(8000, 40_000, 2).operations == pytest.approx(8 * cost(4000, 40_000, 2).operations, rel=0.02)
    assert 5 < cost(80, 2000, 2).operations / cost(40, 2000, 2).operations < 8
    assert cost(40, 2000, 4).seconds == 2 * cost(40, 2000, 2).seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0 must be a whole number >= 1"),
        ({"particles": 100}, "particles=100 must be a multiple of 8 and at least"),
        ({"steps": 50, "particles": 160}, r"at least 4 \(steps \+ 1\): take 208 or more"),
        ({"populations": 1}, "populations=1 must be a whole number >= 2"),
        ({"replicas": 3}, "replicas=3 must be 1 or 2"),
        ({"selection": BernoulliBatches(0.001)}, "leaves batches empty: take at least 1000 particles"),
        ({"selection": PersistentBatches(0.25, 1.0)}, "persistence_time=1 must be at least 1.2"),
        ({"steps": 2000, "particles": 16000}, r"need \d+\.\d GB, more than 16"),
        ({"training": PerceptronTraining(9.0), "steps": 30}, r"learning_rate=9: weights or their response diverge by"),
    ],
)
def test_what_is_refused(arguments: dict, message: str) -> None:
    settings = {"selection": SGD, "training": TRAINING, "steps": 5, "particles": 160, "populations": 2} | arguments
    with pytest.raises(ValueError, match=message):
        solve_mean_field(
            RIDGE,
            settings.pop("training"),
            settings.pop("selection"),
            settings.pop("steps"),
            stream(0, "x"),
            **settings,
        )


# ---- The solution ----------------------------------------------------------------------------------------------------


def test_saved_and_loaded(tmp_path: Path, many: MeanFieldSolution) -> None:
    for selection, solved in (
        (SGD, many),
        *(
            (selection, solve_mean_field(HINGE, TRAINING, selection, 3, stream(0, "x"), particles=16, populations=2))
            for selection in (PersistentBatches(0.25, 3.0), ReshuffledBatches(2))
        ),
    ):
        solved.save(tmp_path / "solution.npz")
        again = MeanFieldSolution.load(tmp_path / "solution.npz")
        assert again.selection == selection
        for name, value in vars(solved).items():
            assert np.array_equal(getattr(again, name), value), name
    assert [path.name for path in tmp_path.iterdir()] == ["solution.npz"]
    np.savez(tmp_path / "other.npz", x=np.ones(2))
    with pytest.raises(ValueError, match="not a solution of mean-field theory"):
        MeanFieldSolution.load(tmp_path / "other.npz")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "solution.npz"
    solve_mean_field(HINGE, TRAINING, SGD, 3, stream(0, "x"), particles=16, populations=2).save(path)
    whole = path.read_bytes()
    with np.load(path) as saved:
        arrays = dict(saved)
    for damaged in (b"", whole[:10], whole[: len(whole) // 2], whole[:-30], b"words"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a solution of mean-field theory, or damaged"):
            MeanFieldSolution.load(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="or damaged"):
        MeanFieldSolution.load(path)
    arrays.pop("overlap")
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="damaged solution of mean-field theory without overlap"):
        MeanFieldSolution.load(path)
    with pytest.raises(FileNotFoundError):
        MeanFieldSolution.load(tmp_path / "none.npz")


def test_full_batches_of_little_weight_are_not_empty() -> None:
    found = solve_mean_field(RIDGE, TRAINING, FullBatch(1e-3), 3, stream(0, "x"), particles=16, populations=2)
    right = solve_ridge(RIDGE, TRAINING, FullBatch(1e-3), 3)
    np.testing.assert_allclose(found.overlap.mean(axis=0), right.overlap, atol=1e-5)


def test_estimates(many: MeanFieldSolution) -> None:
    overlap = many.series("overlap")
    assert len(overlap) == STEPS + 1
    assert overlap[10] == many.estimate("overlap", 10) == many.resolved("overlap", -1)
    assert many.series("correlation", 10)[5] == many.estimate("correlation", 10, 5)
    with pytest.raises(ValueError, match="quantity='weights' must be one of overlap, correlation"):
        many.estimate("weights", 1)
    with pytest.raises(ValueError, match="one dimension"):
        many.estimate("correlation", 1)


def test_particles_that_are_too_few() -> None:
    few = solve_mean_field(HINGE, TRAINING, SGD, 6, stream(0, "few"), particles=32, populations=4)
    with pytest.raises(
        ValueError, match=r"train_loss\(6\)=\S+ is known to \+-\S+ only \(95 %\), worse than 0\.01 of it"
    ):
        few.resolved("train_loss", 6, relative_error=0.01)
    with pytest.raises(ValueError, match="is lost in the sampling error"):
        resolved("x", Estimate(1e-9, 0.1, 8), 100, 0.2)
    with pytest.raises(ValueError, match=r"relative_error=0 must be finite and > 0"):
        resolved("x", Estimate(1.0, 0.1, 8), 100, 0)
    with pytest.raises(ValueError, match="replica_distance needs two replicas"):
        few.estimate("replica_distance", 6)
    with pytest.raises(ValueError, match="replica_correlation needs two replicas"):
        few.estimate("replica_correlation", 6, 6)
