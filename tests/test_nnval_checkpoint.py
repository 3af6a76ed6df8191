"""Checkpoints: the same bytes when read back, refused when damaged or foreign, and unable to run code."""

import io
import os
import pickle

import pytest
import torch

from nnval.engine import checkpoint
from tests.resumable_run import uninterrupted


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return uninterrupted(tmp_path_factory.mktemp("reference") / "run")


def test_a_state_read_back_has_the_same_bytes(reference):
    for name, content in reference.items():
        if name.endswith(".pt"):
            assert checkpoint.to_bytes(checkpoint.from_bytes(content)) == content


def test_damaged_checkpoints_are_named(reference, tmp_path):
    content = reference["members/0000-0002/checkpoint.pt"]
    weights = checkpoint.from_bytes(content).stack.parameters["1.weight"]
    flipped = bytearray(content)
    flipped[content.index(weights.numpy().tobytes()) + 5] ^= 1  # one bit of one weight
    for number, damaged in enumerate([b"", content[: len(content) // 2], bytes(flipped), pickle.dumps({"epoch": 3})]):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.CheckpointError, match=rf"cannot read .*{number}.pt"):
            checkpoint.read_state(path)


def test_checkpoints_of_another_schema_are_refused(reference, tmp_path):
    payload = torch.load(io.BytesIO(reference["members/0000-0002/checkpoint.pt"]), weights_only=True)
    path = tmp_path / "checkpoint.pt"
    torch.save(payload | {"schema": 1}, path)
    with pytest.raises(checkpoint.CheckpointError, match=r"its schema is 1, this version of jostle reads 2"):
        checkpoint.read_state(path)


class RunsCode:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_a_checkpoint_cannot_run_code(tmp_path):
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "was-here"
    torch.save({"schema": checkpoint.SCHEMA, "epoch": RunsCode(trace)}, path)
    with pytest.raises(checkpoint.CheckpointError, match=r"damaged or no checkpoint"):
        checkpoint.read_state(path)
    assert not trace.exists()
