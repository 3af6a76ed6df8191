"""Measurements on training runs and networks, each with an example in its docstring.

Nothing is imported before it is used. The modules hold more, such as ``nnval.measure.fluctuations``, which turns
recorded weights into variances.

Anybody's training curves:
    read_curves, Curves
The training loss as a function of the weights, and its curvature:
    FullLoss, eigenpairs, Eigenpairs, estimate_hessian_trace
Gradient noise:
    BatchOrder, measure_gradient_noise, MeasuredNoise, TrainingMetrics
Weights, recorded at every update:
    BatchGradients, RecordingConfig, WeightRecording, load_recording, record_weights
Activation patterns and their temperature:
    pattern_temperature, lr_sweep, step_direction, PatternRule, PatternChanges, RateSweep
Replicas, and the width that a network leaves to points:
    replica_distance, ReplicaDistance, measure_boundary_width, BoundaryWidth, margins
"""

from typing import TYPE_CHECKING

from theory.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from nnval.measure.activation_patterns import lr_sweep as lr_sweep
    from nnval.measure.activation_patterns import pattern_temperature as pattern_temperature
    from nnval.measure.activation_patterns import step_direction as step_direction
    from nnval.measure.batch_gradients import BatchGradients as BatchGradients
    from nnval.measure.batch_orders import BatchOrder as BatchOrder
    from nnval.measure.boundary_width import BoundaryWidth as BoundaryWidth
    from nnval.measure.boundary_width import margins as margins
    from nnval.measure.boundary_width import measure_boundary_width as measure_boundary_width
    from nnval.measure.curves import Curves as Curves
    from nnval.measure.curves import read_curves as read_curves
    from nnval.measure.full_loss import FullLoss as FullLoss
    from nnval.measure.gradient_noise import MeasuredNoise as MeasuredNoise
    from nnval.measure.gradient_noise import measure_gradient_noise as measure_gradient_noise
    from nnval.measure.hessian import Eigenpairs as Eigenpairs
    from nnval.measure.hessian import eigenpairs as eigenpairs
    from nnval.measure.hessian_trace import estimate_hessian_trace as estimate_hessian_trace
    from nnval.measure.pattern_counts import PatternChanges as PatternChanges
    from nnval.measure.pattern_counts import PatternRule as PatternRule
    from nnval.measure.pattern_counts import RateSweep as RateSweep
    from nnval.measure.recording_files import RecordingConfig as RecordingConfig
    from nnval.measure.recording_files import WeightRecording as WeightRecording
    from nnval.measure.recording_files import load_recording as load_recording
    from nnval.measure.replicas import ReplicaDistance as ReplicaDistance
    from nnval.measure.replicas import replica_distance as replica_distance
    from nnval.measure.training_metrics import TrainingMetrics as TrainingMetrics
    from nnval.measure.weight_recording import record_weights as record_weights

_SUBMODULES = {
    "read_curves": "curves",
    "Curves": "curves",
    "FullLoss": "full_loss",
    "eigenpairs": "hessian",
    "Eigenpairs": "hessian",
    "estimate_hessian_trace": "hessian_trace",
    "BatchOrder": "batch_orders",
    "measure_gradient_noise": "gradient_noise",
    "MeasuredNoise": "gradient_noise",
    "TrainingMetrics": "training_metrics",
    "BatchGradients": "batch_gradients",
    "RecordingConfig": "recording_files",
    "WeightRecording": "recording_files",
    "load_recording": "recording_files",
    "record_weights": "weight_recording",
    "pattern_temperature": "activation_patterns",
    "lr_sweep": "activation_patterns",
    "step_direction": "activation_patterns",
    "PatternRule": "pattern_counts",
    "PatternChanges": "pattern_counts",
    "RateSweep": "pattern_counts",
    "replica_distance": "replicas",
    "ReplicaDistance": "replicas",
    "measure_boundary_width": "boundary_width",
    "BoundaryWidth": "boundary_width",
    "margins": "boundary_width",
}

if not TYPE_CHECKING:
    __all__ = list(_SUBMODULES)
    __getattr__, __dir__ = lazy_exports(__name__, _SUBMODULES)
