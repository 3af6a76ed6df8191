"""What the reports of several experiments say in the same words; needs no torch."""

from pathlib import Path

from nnval.engine.config import TrainingConfig


def data_name(training: TrainingConfig) -> str:
    """What the images are called: the data set, or the name of one's own folder or archive.

    Args:
        training: on them.

    Example:
        >>> data_name(TrainingConfig(data="image_folder", data_dir="/home/me/birds.tar"))
        'birds.tar'
    """
    if training.data == "image_folder" and training.data_dir is not None:
        return Path(training.data_dir).name
    return training.data


def network_name(training: TrainingConfig) -> str:
    """The kind of network, with the widths of one that has no others.

    Args:
        training: of it.

    Example:
        >>> network_name(TrainingConfig(hidden=(8,))), network_name(TrainingConfig(model="lenet"))
        ('mlp [8]', 'lenet')
    """
    return f"{training.model} {list(training.hidden)}" if training.model == "mlp" else training.model


def data_words(training: TrainingConfig, samples: int | None) -> str:
    """What a network is trained on.

    Args:
        training: of it.
        samples: of the training; None for all there are.

    Example:
        >>> data_words(TrainingConfig(label_noise=0.2), 500)
        '500 images of digits, 20% of the labels wrong'
    """
    noise = f", {training.label_noise:.0%} of the labels wrong" if training.label_noise else ""
    return f"{'all' if samples is None else samples} images of {data_name(training)}{noise}"


def network_words(training: TrainingConfig, weights: int, samples: int | None) -> str:
    """The network and its data.

    Args:
        training: of it.
        weights: d.
        samples: of the training; None for all there are.

    Example:
        >>> network_words(TrainingConfig(hidden=(8,), label_noise=0.2), 600, 500)
        'mlp [8], 600 weights, on 500 images of digits, 20% of the labels wrong'
    """
    return f"{network_name(training)}, {weights} weights, on {data_words(training, samples)}"
