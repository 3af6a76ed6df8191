"""Experiments on real networks: training ensembles, measurements on them, and tools for a user's own training loop.

What a user calls is here by name, as in ``from nnval import TrainingConfig, train_ensemble``, each with an example in
its docstring; nothing is imported before it is used. Two packages have names of their own: `nnval.drop_in`, what a
PyTorch user attaches to a loop, and `nnval.measure`, measurements on curves and networks. `nnval.engine` is the
trainer. Of each experiment here, ``..._study`` holds config and results, ``..._tables`` words, ``..._arrays`` files.

Ensembles of networks, trained, resumed, branched:
    TrainingConfig, train_ensemble, EnsembleResult, load_ensemble, Branch, RunStatus, run_status, load_recipe
Advice from training curves:
    advise, Advice, once, every, scan_targets, TargetScan
Does one measured perturbation predict training at every interval?
    StudyConfig, Study, run_study, load_study
Variances of weights along curvatures:
    VarianceConfig, measure_weight_variance, VarianceResult
How hot is SGD?
    EffectiveTemperatureConfig, EffectiveTemperature, run_effective_temperature
Anti-correlated noise and flatness:
    WideningValleyConfig, WideningValley, run_widening_valley
Cooling by the activation-pattern temperature:
    CoolingStudyConfig, CoolingStudy, run_cooling_study
Noise on the weights that follows phases:
    NoiseStudyConfig, NoiseStudy, run_noise_study
What these experiments share:
    load_experiment, PairedDifference
A training as one flat script:
    standalone_script, library_script
"""

from typing import TYPE_CHECKING

from theory.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from nnval.activation_temperature import run_cooling_study as run_cooling_study
    from nnval.activation_temperature_study import CoolingStudy as CoolingStudy
    from nnval.activation_temperature_study import CoolingStudyConfig as CoolingStudyConfig
    from nnval.adaptive_noise import run_noise_study as run_noise_study
    from nnval.adaptive_noise_study import NoiseStudy as NoiseStudy
    from nnval.adaptive_noise_study import NoiseStudyConfig as NoiseStudyConfig
    from nnval.advice import Advice as Advice
    from nnval.advice import advise as advise
    from nnval.advice import every as every
    from nnval.advice import once as once
    from nnval.effective_temperature import run_effective_temperature as run_effective_temperature
    from nnval.effective_temperature_study import EffectiveTemperature as EffectiveTemperature
    from nnval.effective_temperature_study import EffectiveTemperatureConfig as EffectiveTemperatureConfig
    from nnval.engine.branch import Branch as Branch
    from nnval.engine.config import TrainingConfig as TrainingConfig
    from nnval.engine.ensemble import train_ensemble as train_ensemble
    from nnval.engine.recipes import load_recipe as load_recipe
    from nnval.engine.recipes import load_study as load_study
    from nnval.engine.results import EnsembleResult as EnsembleResult
    from nnval.engine.results import load_ensemble as load_ensemble
    from nnval.engine.status import RunStatus as RunStatus
    from nnval.engine.status import run_status as run_status
    from nnval.experiment_presets import load_experiment as load_experiment
    from nnval.paired_differences import PairedDifference as PairedDifference
    from nnval.perturbation import run_study as run_study
    from nnval.study import Study as Study
    from nnval.study import StudyConfig as StudyConfig
    from nnval.target_scan import TargetScan as TargetScan
    from nnval.target_scan import scan_targets as scan_targets
    from nnval.training_script import library_script as library_script
    from nnval.training_script import standalone_script as standalone_script
    from nnval.weight_variance import VarianceResult as VarianceResult
    from nnval.weight_variance import measure_weight_variance as measure_weight_variance
    from nnval.weight_variance_config import VarianceConfig as VarianceConfig
    from nnval.widening_valley import run_widening_valley as run_widening_valley
    from nnval.widening_valley_study import WideningValley as WideningValley
    from nnval.widening_valley_study import WideningValleyConfig as WideningValleyConfig

_SUBMODULES = {
    "TrainingConfig": "engine.config",
    "train_ensemble": "engine.ensemble",
    "EnsembleResult": "engine.results",
    "load_ensemble": "engine.results",
    "Branch": "engine.branch",
    "RunStatus": "engine.status",
    "run_status": "engine.status",
    "load_recipe": "engine.recipes",
    "advise": "advice",
    "Advice": "advice",
    "once": "advice",
    "every": "advice",
    "scan_targets": "target_scan",
    "TargetScan": "target_scan",
    "StudyConfig": "study",
    "Study": "study",
    "run_study": "perturbation",
    "load_study": "engine.recipes",
    "VarianceConfig": "weight_variance_config",
    "measure_weight_variance": "weight_variance",
    "VarianceResult": "weight_variance",
    "EffectiveTemperatureConfig": "effective_temperature_study",
    "EffectiveTemperature": "effective_temperature_study",
    "run_effective_temperature": "effective_temperature",
    "WideningValleyConfig": "widening_valley_study",
    "WideningValley": "widening_valley_study",
    "run_widening_valley": "widening_valley",
    "CoolingStudyConfig": "activation_temperature_study",
    "CoolingStudy": "activation_temperature_study",
    "run_cooling_study": "activation_temperature",
    "NoiseStudyConfig": "adaptive_noise_study",
    "NoiseStudy": "adaptive_noise_study",
    "run_noise_study": "adaptive_noise",
    "load_experiment": "experiment_presets",
    "PairedDifference": "paired_differences",
    "standalone_script": "training_script",
    "library_script": "training_script",
}

if not TYPE_CHECKING:
    __all__ = list(_SUBMODULES)
    __getattr__, __dir__ = lazy_exports(__name__, _SUBMODULES)
