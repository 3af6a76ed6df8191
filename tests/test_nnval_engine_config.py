import dataclasses
import json

import pytest

from nnval.engine.config import WITHOUT_EFFECT, TrainingConfig

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
    ({"schedule": "linear"}, r"schedule='linear' must be one of constant, step, cosine, sgdr, one_cycle"),
    ({"schedule": "step"}, r"schedule='step' needs milestones"),
    ({"schedule": "sgdr"}, r"schedule='sgdr' needs cycle_epochs"),
    ({"milestones": (0, 3)}, r"milestones=0 must be a whole number >= 1"),
    ({"milestones": (5, 3)}, r"milestones=\[5, 3\] must be ascending"),
    ({"decay": 0}, r"decay=0 must be a number in \(0, 1\]"),
    ({"cycle_epochs": 0}, r"cycle_epochs=0 must be a whole number >= 1"),
    ({"cycle_growth": 1.5}, r"cycle_growth=1.5 must be a whole number >= 1"),
    ({"warm_up": 1}, r"warm_up=1 must be a number in \(0, 1\)"),
    ({"optimizer": "lion"}, r"optimizer='lion' must be one of sgd, adam, adamw"),
    ({"betas": (0.9,)}, r"betas=\[0.9\] must be two numbers in \[0, 1\)"),
    ({"betas": (0.9, 1)}, r"betas=\[0.9, 1\] must be two numbers"),
    ({"nesterov": 1}, r"nesterov=1 must be true or false"),
    ({"nesterov": True}, r"nesterov=True needs momentum > 0"),
    ({"optimizer": "adam", "momentum": 0.9}, r"momentum=0.9 belongs to optimizer='sgd'; adam has betas"),
    ({"augmentation": "flip"}, r"augmentation='flip' must be one of none, crop_flip"),
    ({"precision": "int8"}, r"precision='int8' must be one of float32, bfloat16, float16"),
    ({"validation_from": "both"}, r"validation_from='both' must be one of train, test"),
    ({"data_sha256": "12"}, r"data_sha256='12' must be 64 hexadecimal digits"),
    ({"channels_last": None}, r"channels_last=None must be true or false"),
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
        "data": "other", "data_sha256": "0" * 64, "train_size": None, "validation_size": 401,
        "validation_from": "test", "label_noise": 0.1, "data_seed": 1, "augmentation": "crop_flip", "model": "lenet",
        "hidden": (32,), "initialisation": "kaiming_fan_out", "optimizer": "adam", "learning_rate": 0.2,
        "momentum": 0.9, "nesterov": True, "betas": (0.8, 0.999), "weight_decay": 1e-3, "schedule": "cosine",
        "milestones": (3,), "decay": 0.2, "cycle_epochs": 3, "cycle_growth": 2, "warm_up": 0.2, "batch_size": 21,
        "epochs": 151, "seed": 1, "stream": "a", "perturbation": {"name": "full_reset"}, "interval": 2, "target": 0.9,
        "snapshots": (1,), "stack_size": 3, "execution": "loop", "device": "cuda", "precision": "bfloat16",
        "channels_last": True, "compiled": True, "deterministic": True,
    }  # fmt: skip
    without_effect = {"data_dir": "somewhere", "members": 65, "first_member": 1}
    assert without_effect.keys() == set(WITHOUT_EFFECT)
    assert changed.keys() | without_effect.keys() == {field.name for field in dataclasses.fields(TrainingConfig)}
    prints = {base.fingerprint()}
    needs = {"interval": {"perturbation": {"name": "full_reset"}}, "nesterov": {"momentum": 0.9}}
    for name, value in changed.items():
        prints.add(TrainingConfig(**{name: value, **needs.get(name, {})}).fingerprint())
    assert len(prints) == len(changed) + 1
    for name, value in without_effect.items():
        assert TrainingConfig(**{name: value}).fingerprint() == base.fingerprint()


def test_equal_trainings_have_equal_fingerprints():
    assert TrainingConfig(target=1).fingerprint() == TrainingConfig(target=1.0).fingerprint()
    assert TrainingConfig(betas=[0, 0]).fingerprint() == TrainingConfig(betas=(0.0, 0.0)).fingerprint()
    assert TrainingConfig(hidden=[8]).fingerprint() == TrainingConfig(hidden=(8,)).fingerprint()


def test_golden_fingerprint():
    # It is on disk in the runs of users: a change here makes their runs impossible to resume.
    assert TrainingConfig().fingerprint() == "a3401993df79bb75af57b50ab86f19a4a5c03e7f0263f7049e548ff816fac16e"


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = 1
