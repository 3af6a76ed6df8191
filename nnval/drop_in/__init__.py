"""What a PyTorch user attaches to their own training loop, one tool per module, each with an example in its docstring.

None of it needs the rest of jostle's engine, and nothing is imported before it is used.

Perturbations, and when they act:
    Perturbation, ShrinkPerturb, PartialReset, FullReset, WarmRestart, GaussianNoise, make_perturbation,
    Perturber, periodic, at, geometric
Learning rates by the activation-pattern temperature, and by its published path:
    ActCooLR, CoolingSchedule
Noise on the weights:
    AdaptiveNoise, AntiPGD
Batches in any order of `sim`:
    BatchOrderSampler
New initial weights:
    initialise, fresh_state
"""

from typing import TYPE_CHECKING

from theory.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from nnval.drop_in.actcoolr import ActCooLR as ActCooLR
    from nnval.drop_in.adaptive_noise import AdaptiveNoise as AdaptiveNoise
    from nnval.drop_in.anti_pgd import AntiPGD as AntiPGD
    from nnval.drop_in.batch_samplers import BatchOrderSampler as BatchOrderSampler
    from nnval.drop_in.cooling_schedule import CoolingSchedule as CoolingSchedule
    from nnval.drop_in.initialisation import fresh_state as fresh_state
    from nnval.drop_in.initialisation import initialise as initialise
    from nnval.drop_in.perturbations import FullReset as FullReset
    from nnval.drop_in.perturbations import GaussianNoise as GaussianNoise
    from nnval.drop_in.perturbations import PartialReset as PartialReset
    from nnval.drop_in.perturbations import Perturbation as Perturbation
    from nnval.drop_in.perturbations import ShrinkPerturb as ShrinkPerturb
    from nnval.drop_in.perturbations import WarmRestart as WarmRestart
    from nnval.drop_in.perturbations import make_perturbation as make_perturbation
    from nnval.drop_in.perturber import Perturber as Perturber
    from nnval.drop_in.perturber import at as at
    from nnval.drop_in.perturber import geometric as geometric
    from nnval.drop_in.perturber import periodic as periodic

_SUBMODULES = {
    "Perturbation": "perturbations",
    "ShrinkPerturb": "perturbations",
    "PartialReset": "perturbations",
    "FullReset": "perturbations",
    "WarmRestart": "perturbations",
    "GaussianNoise": "perturbations",
    "make_perturbation": "perturbations",
    "Perturber": "perturber",
    "periodic": "perturber",
    "at": "perturber",
    "geometric": "perturber",
    "ActCooLR": "actcoolr",
    "CoolingSchedule": "cooling_schedule",
    "AdaptiveNoise": "adaptive_noise",
    "AntiPGD": "anti_pgd",
    "BatchOrderSampler": "batch_samplers",
    "initialise": "initialisation",
    "fresh_state": "initialisation",
}

if not TYPE_CHECKING:
    __all__ = list(_SUBMODULES)
    __getattr__, __dir__ = lazy_exports(__name__, _SUBMODULES)
