import dataclasses
import json

import pytest

from nnval.engine.config import TrainingConfig

BAD = [
    ({"data": ""}, r"data='' must be a name"),
    ({"stream": 3}, r"stream=3 must be a name"),
    ({"train_size": 0}, r"train_size=0 must be a whole number >= 1"),
    ({"train_size": 10.0}, r"train_size=10.0 must be a whole number"),
    ({"validation_size": 0}, r"validation_size=0 .* decide when a target is reached"),
    ({"label_noise": 1.1}, r"label_noise=1.1 must be a number in \[0, 1\]"),
    ({"label_noise": float("nan")}, r"label_noise=nan"),
    ({"data_seed": -1}, r"data_seed=-1 must be a whole number >= 0"),
    ({"hidden": "32"}, r"hidden='32' must be a list"),
    ({"hidden": (8, 0)}, r"hidden=0 must be a whole number >= 1"),
    ({"learning_rate": 0}, r"learning_rate=0 must be a number > 0"),
    ({"learning_rate": True}, r"learning_rate=True"),
    ({"learning_rate": float("inf")}, r"learning_rate=inf"),
    ({"momentum": 1}, r"momentum=1 must be a number in \[0, 1\)"),
    ({"weight_decay": -1e-3}, r"weight_decay=-0.001 must be a number >= 0"),
    ({"schedule": "step"}, r"schedule='step' must be one of constant, cosine"),
    ({"batch_size": 0}, r"batch_size=0"),
    ({"batch_size": 501}, r"batch_size=501 must be <= train_size=500"),
    ({"epochs": 0}, r"epochs=0"),
    ({"members": True}, r"members=True"),
    ({"first_member": -1}, r"first_member=-1"),
    ({"seed": -1}, r"seed=-1"),
    ({"perturbation": {"shrink": 0.4}}, r"must be a mapping with a 'name'"),
    ({"perturbation": {"name": "x", "option": object()}}, r"must be plain JSON"),
    ({"perturbation": {"name": "x", "option": float("nan")}}, r"must be plain JSON"),
    ({"interval": 3}, r"interval=3 needs a perturbation"),
    ({"interval": 0, "perturbation": {"name": "full_reset"}}, r"interval=0 must be a whole number >= 1"),
    ({"target": 0}, r"target=0 must be a number in \(0, 1\]"),
    ({"target": 1.01}, r"target=1.01"),
    ({"snapshots": (151,)}, r"snapshots=151 must be <= epochs=150"),
    ({"snapshots": (-1,)}, r"snapshots=-1"),
    ({"stack_size": 0}, r"stack_size=0"),
    ({"execution": "fast"}, r"execution='fast' must be one of auto, stacked, loop"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**values)


def test_round_trip_through_json():
    config = TrainingConfig(
        hidden=(8, 4), perturbation={"name": "shrink_perturb", "shrink": 0.5}, interval=3, snapshots=[5, 0, 5], target=1
    )
    assert config.snapshots == (0, 5)
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match=r"unknown field 'lr'; a training config has data, "):
        TrainingConfig.from_dict({"lr": 0.1})


def test_fingerprint_sees_every_field_that_affects_numbers():
    base = TrainingConfig()
    changed = {
        "data": "other", "train_size": 501, "validation_size": 401, "label_noise": 0.1, "data_seed": 1,
        "model": "lenet", "hidden": (32,), "initialisation": "kaiming_fan_out", "learning_rate": 0.2, "momentum": 0.9,
        "weight_decay": 1e-3, "schedule": "cosine", "batch_size": 21, "epochs": 151, "members": 65, "first_member": 1,
        "seed": 1, "stream": "a", "perturbation": {"name": "full_reset"}, "interval": 2, "target": 0.9,
        "snapshots": (1,), "stack_size": 3, "execution": "loop", "device": "cuda",
    }  # fmt: skip
    assert changed.keys() | {"data_dir"} == {field.name for field in dataclasses.fields(TrainingConfig)}
    prints = {base.fingerprint()}
    for name, value in changed.items():
        extra = {"perturbation": {"name": "full_reset"}} if name == "interval" else {}
        prints.add(TrainingConfig(**{name: value, **extra}).fingerprint())
    assert len(prints) == len(changed) + 1
    assert TrainingConfig(data_dir="somewhere").fingerprint() == base.fingerprint()


def test_equal_trainings_have_equal_fingerprints():
    assert TrainingConfig(target=1).fingerprint() == TrainingConfig(target=1.0).fingerprint()
    assert TrainingConfig(hidden=[8]).fingerprint() == TrainingConfig(hidden=(8,)).fingerprint()


def test_golden_fingerprint():
    # It is on disk in the runs of users: a change here makes their runs impossible to resume.
    assert TrainingConfig().fingerprint() == "e01c74142952a46b4dc7f7b93dcdd84bee8786648933708e3a7c34a20b661c25"


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = 1
