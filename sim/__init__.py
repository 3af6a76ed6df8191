"""Simulators of jostle's toy models, and the random streams that simulation and training share.

What a user calls is here by name, as in ``from sim import simulate_restarted``, each with an example in its docstring;
nothing is imported before it is used. The models themselves (laws, noises, potentials, perceptrons) are in `theory`.
The other modules are compiled kernels and what they need.

Restarted processes:
    simulate_restarted, simulate_diffusion, Diffusion, Passages
Training as a coordinate, perturbed every P epochs:
    simulate_perturbed, Perturbation, shrink_and_perturb, full_reset
Weights under gradient noise, and the temperatures of SGD:
    simulate_weight_variance, SimulatedVariances, simulate_effective_temperature, SimulatedTemperatures
Linear regression, whose noise depends on the weights:
    simulate_least_squares, LeastSquares, LeastSquaresVariances
The perceptron of mean-field theory, of finite size:
    simulate_perceptron, SimulatedPerceptron, simulated_temperature, simulate_to_convergence,
    ConvergedPerceptrons
The widening valley:
    simulate_valley, SimulatedValley
Activation patterns, and cooling by their temperature:
    simulate_flips, SimulatedFlips, simulate_cooling, CooledLoops, stability_boundary
Noise on the weights that follows the phases of training:
    simulate_adaptive_noise, SimulatedTrainings, Landscape, quadratic_landscape, double_well_landscape,
    constant_of_equal_noise
Orders of batches: what an epoch is:
    batches_per_epoch, reshuffled, with_replacement, reshuffled_epochs, with_replacement_epochs,
    shuffled_once_epochs, persistent_epochs, measured_autocovariance
Random streams:
    stream, CountedStream
"""

from typing import TYPE_CHECKING

from theory.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from sim.activation_temperature import CooledLoops as CooledLoops
    from sim.activation_temperature import SimulatedFlips as SimulatedFlips
    from sim.activation_temperature import simulate_cooling as simulate_cooling
    from sim.activation_temperature import simulate_flips as simulate_flips
    from sim.activation_temperature import stability_boundary as stability_boundary
    from sim.adaptive_noise import Landscape as Landscape
    from sim.adaptive_noise import SimulatedTrainings as SimulatedTrainings
    from sim.adaptive_noise import constant_of_equal_noise as constant_of_equal_noise
    from sim.adaptive_noise import double_well_landscape as double_well_landscape
    from sim.adaptive_noise import quadratic_landscape as quadratic_landscape
    from sim.adaptive_noise import simulate_adaptive_noise as simulate_adaptive_noise
    from sim.batch_order import batches_per_epoch as batches_per_epoch
    from sim.batch_order import persistent_epochs as persistent_epochs
    from sim.batch_order import reshuffled as reshuffled
    from sim.batch_order import reshuffled_epochs as reshuffled_epochs
    from sim.batch_order import shuffled_once_epochs as shuffled_once_epochs
    from sim.batch_order import with_replacement as with_replacement
    from sim.batch_order import with_replacement_epochs as with_replacement_epochs
    from sim.effective_temperature import SimulatedTemperatures as SimulatedTemperatures
    from sim.effective_temperature import simulate_effective_temperature as simulate_effective_temperature
    from sim.first_passage import Diffusion as Diffusion
    from sim.first_passage import Passages as Passages
    from sim.first_passage import simulate_diffusion as simulate_diffusion
    from sim.least_squares import LeastSquares as LeastSquares
    from sim.least_squares import LeastSquaresVariances as LeastSquaresVariances
    from sim.least_squares import simulate_least_squares as simulate_least_squares
    from sim.noise_autocovariance import measured_autocovariance as measured_autocovariance
    from sim.perceptron import SimulatedPerceptron as SimulatedPerceptron
    from sim.perceptron import simulate_perceptron as simulate_perceptron
    from sim.perceptron_convergence import ConvergedPerceptrons as ConvergedPerceptrons
    from sim.perceptron_convergence import simulate_to_convergence as simulate_to_convergence
    from sim.perceptron_temperature import simulated_temperature as simulated_temperature
    from sim.perturbation import Perturbation as Perturbation
    from sim.perturbation import full_reset as full_reset
    from sim.perturbation import shrink_and_perturb as shrink_and_perturb
    from sim.perturbation import simulate_perturbed as simulate_perturbed
    from sim.random_streams import CountedStream as CountedStream
    from sim.random_streams import stream as stream
    from sim.resetting import simulate_restarted as simulate_restarted
    from sim.weight_variance import SimulatedVariances as SimulatedVariances
    from sim.weight_variance import simulate_weight_variance as simulate_weight_variance
    from sim.widening_valley import SimulatedValley as SimulatedValley
    from sim.widening_valley import simulate_valley as simulate_valley

_SUBMODULES = {
    "simulate_restarted": "resetting",
    "simulate_diffusion": "first_passage",
    "Diffusion": "first_passage",
    "Passages": "first_passage",
    "simulate_perturbed": "perturbation",
    "Perturbation": "perturbation",
    "shrink_and_perturb": "perturbation",
    "full_reset": "perturbation",
    "simulate_weight_variance": "weight_variance",
    "SimulatedVariances": "weight_variance",
    "simulate_effective_temperature": "effective_temperature",
    "SimulatedTemperatures": "effective_temperature",
    "simulate_least_squares": "least_squares",
    "LeastSquares": "least_squares",
    "LeastSquaresVariances": "least_squares",
    "simulate_perceptron": "perceptron",
    "SimulatedPerceptron": "perceptron",
    "simulated_temperature": "perceptron_temperature",
    "simulate_to_convergence": "perceptron_convergence",
    "ConvergedPerceptrons": "perceptron_convergence",
    "simulate_valley": "widening_valley",
    "SimulatedValley": "widening_valley",
    "simulate_flips": "activation_temperature",
    "SimulatedFlips": "activation_temperature",
    "simulate_cooling": "activation_temperature",
    "CooledLoops": "activation_temperature",
    "stability_boundary": "activation_temperature",
    "simulate_adaptive_noise": "adaptive_noise",
    "SimulatedTrainings": "adaptive_noise",
    "Landscape": "adaptive_noise",
    "quadratic_landscape": "adaptive_noise",
    "double_well_landscape": "adaptive_noise",
    "constant_of_equal_noise": "adaptive_noise",
    "batches_per_epoch": "batch_order",
    "reshuffled": "batch_order",
    "with_replacement": "batch_order",
    "reshuffled_epochs": "batch_order",
    "with_replacement_epochs": "batch_order",
    "shuffled_once_epochs": "batch_order",
    "persistent_epochs": "batch_order",
    "measured_autocovariance": "noise_autocovariance",
    "stream": "random_streams",
    "CountedStream": "random_streams",
}

if not TYPE_CHECKING:
    __all__ = list(_SUBMODULES)
    __getattr__, __dir__ = lazy_exports(__name__, _SUBMODULES)
