"""How an ensemble is planned in blocks, and the status of a run that is shared or stopped."""

import dataclasses
import json
import os
import time

import pytest

from nnval.engine.blocks import Block, children_of, plan_blocks, planned_blocks, progress_of
from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.engine.status import run_status
from tests.distributed_runs import CONFIG, train

# ---- Planning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "most", "workers", "names"),
    [
        (range(7), 3, 1, ["0000-0002", "0003-0005", "0006"]),
        (range(7), 256, 1, ["0000-0006"]),
        (range(7), 256, 2, ["0000-0003", "0004-0006"]),
        (range(10), 4, 2, ["0000-0002", "0003-0005", "0006-0008", "0009"]),
        (range(3), 256, 8, ["0000", "0001", "0002"]),
        (range(9_998, 10_002), 2, 1, ["9998-9999", "10000-10001"]),
    ],
)
def test_blocks_are_planned_for_workers(tmp_path, members, most, workers, names):
    blocks = plan_blocks(tmp_path, members, None, most=most, workers=workers)
    assert [block.path.name for block in blocks] == names
    assert [member for block in blocks for member in block.members] == list(members)


def test_blocks_that_are_there_stay_and_are_not_reached_across(tmp_path):
    (tmp_path / "done.json").write_text("{}")
    plan_blocks(tmp_path, range(4, 6), None, most=4, workers=1)
    assert not (tmp_path / "done.json").exists()  # more is planned than was merged
    (tmp_path / "done.json").write_text("{}")
    assert len(plan_blocks(tmp_path, range(5, 6), None, most=4, workers=1)) == 1
    assert not (tmp_path / "done.json").exists()  # a block is not done: a power failure may have brought the mark back
    for path in (tmp_path, tmp_path / "members" / "0004-0005"):
        (path / "done.json").write_text("{}")
    assert len(plan_blocks(tmp_path, range(5, 6), None, most=4, workers=1)) == 1
    assert (tmp_path / "done.json").exists()
    blocks = plan_blocks(tmp_path, range(11), None, most=4, workers=1)
    assert [block.path.name for block in blocks] == ["0000-0003", "0004-0005", "0006-0009", "0010"]
    (tmp_path / "members" / ".DS_Store").touch()
    (tmp_path / "members" / "0 copy").touch()
    assert planned_blocks(tmp_path, None) == blocks
    assert [block.path.name for block in plan_blocks(tmp_path, range(3, 5), None, most=1, workers=1)] == [
        "0000-0003",
        "0004-0005",
    ]


def test_blocks_of_a_branch_hold_the_children_only(tmp_path):
    children = children_of({"members": [2, 7, 8], "children_per_parent": 2})
    assert children == [4, 5, 14, 15, 16, 17]
    blocks = plan_blocks(tmp_path, children, children, most=3, workers=1)
    assert [(block.path.name, block.members) for block in blocks] == [
        ("0004-0014", (4, 5, 14)),
        ("0015-0017", (15, 16, 17)),
    ]


def test_progress_is_read_from_the_end_of_the_curves(tmp_path):
    block = Block(tmp_path, (0, 1, 2))
    assert progress_of(block, 10).work == 0
    lines = ["run,epoch,train_loss,validation_accuracy"]
    assert progress_of(block, 10).work == 0
    lines += [f"{member},{epoch},0.123456789,0.5" for epoch in range(1, 8) for member in (0, 1, 2)[epoch > 4 :]]
    (tmp_path / "curves.csv").write_text("\n".join(lines) + "\n1,8,0.1")  # just being written
    progress = progress_of(block, 10)
    assert (progress.epoch, progress.training, progress.work) == (7, 2, 10 + 2 * 7)
    (tmp_path / "done.json").touch()
    assert progress_of(block, 10).work == 30


# ---- Status --------------------------------------------------------------------------------------------------------


def test_status_of_a_stopped_and_of_a_finished_run(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(RunDirectoryError, match="holds no run"):
        run_status(run)

    def stop(done, total, text):
        if "block 3 of 6: epoch 2 " in text:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        train(run, progress=stop)
    status = run_status(run)
    assert (status.state, status.planned, status.done, status.training, status.waiting) == ("stopped", 6, 2, 0, 4)
    assert status.work == 2 * 40 + 2
    assert status.total_work == 240
    assert sum(status.ended.values()) == 2
    assert (status.rate, status.seconds_left) == (None, None)
    assert 0 <= status.last_written < 60
    result = train(run)
    status = run_status(run)
    assert (status.state, status.done, status.work) == ("finished", 6, 240)
    assert status.ended == {name: int((result.status == name).sum()) for name in ("reached", "horizon", "diverged")}
    json.dumps(status.to_dict())


def test_status_sees_ends_in_a_block_that_goes_on(tmp_path):
    run = tmp_path / "run"

    def stop(done, total, text):
        if "epoch 30 " in text:
            raise Interrupted("enough")

    config = dataclasses.replace(CONFIG, stack_size=6)
    with pytest.raises(Interrupted):
        train(run, config, progress=stop)
    before = run_status(run)
    result = train(run, config)
    early = int(((result.status == "reached") & (result.epochs <= 30)).sum())
    assert before.ended == {"reached": early, "horizon": 0, "diverged": 0}
    assert early > 0


def test_status_of_a_run_at_work_has_a_rate(tmp_path):
    run = tmp_path / "run"
    seen = []

    def look(done, total, text):
        if "block 2 of 6: epoch 3 " in text:
            os.utime(run / "members" / "0001" / ".lock", (time.time() - 10, time.time() - 10))
            seen.append(run_status(run))

    train(run, progress=look)
    (status,) = seen
    assert (status.state, status.done, status.training, status.waiting) == ("running", 1, 1, 4)
    assert status.work == 40 + 2  # the third epoch is not saved yet
    assert status.rate == pytest.approx(2 / 10, rel=0.1)
    assert status.seconds_left == pytest.approx((240 - 42) / status.rate)
