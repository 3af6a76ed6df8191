"""What all tests share: seeds, the data of ../shared, the markers that skip themselves, hypothesis without a clock.

Nothing here sets a number of threads: `make test` does, by OMP_NUM_THREADS, which subprocesses of tests inherit.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Before anything imports matplotlib, subprocesses included.
os.environ["MPLBACKEND"] = "Agg"

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Its checks say what was different, as those in a test do.
pytest.register_assert_rewrite("tests.command_line", "tests.figure_checks", "tests.training_processes")

# The same examples each time, and no deadline: the first call of a numba kernel compiles it.
hypothesis.settings.register_profile("jostle", deadline=None, derandomize=True)
hypothesis.settings.load_profile("jostle")


def seeds_to_test() -> list[int]:
    """0; the number in JOSTLE_TEST_SEED; or 0 to 99 for JOSTLE_TEST_SEED=all, as before a release."""
    wanted = os.environ.get("JOSTLE_TEST_SEED", "0")
    if wanted == "all":
        return list(range(100))
    if not wanted.isdecimal():
        raise pytest.UsageError(f"JOSTLE_TEST_SEED={wanted!r} must be a number >= 0 or 'all'")
    return [int(wanted)]


@pytest.fixture(params=seeds_to_test(), ids="seed{}".format)
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of a test's random numbers. A test that takes it must pass for each of 0 to 99."""
    return request.param


@pytest.fixture
def shared_data() -> Path:
    """../shared/data; mark the test `shared`, so that it skips where that is absent."""
    return SHARED / "data"


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images go to a temporary directory, those of subprocesses too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOSTLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of decoded images for this test alone."""
    monkeypatch.setenv("JOSTLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch adds in one order, whatever OMP_NUM_THREADS says."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the machine cannot run, with the reason."""
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        pytest.skip("needs ../shared, which is not there")
    if item.get_closest_marker("gpu"):
        import torch  # here, so that a run without gpu tests does not pay for it

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
