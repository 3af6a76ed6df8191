"""Closed forms and deterministic numerics; needs numpy, scipy and sympy only.

What a user needs is here by name, as in ``from theory import Exponential, Restarted``, each with an example in its
docstring; nothing is imported before it is used. The modules hold more, such as ``theory.continuous_chain``, which has
the functions of chains in continuous time.

Laws of a first-passage time:
    PassageLaw, SurvivalLaw, EmpiricalLaw, Mixture, Deterministic, Exponential, Hyperexponential, Gamma, erlang,
    Weibull, LogNormal, Pareto, Brownian, DriftDiffusion, Interval, OrnsteinUhlenbeck
Restart in continuous time:
    Restarted, restart_helps, optimal_rate, optimal_interval, michaelis_menten
Restart every P epochs:
    sharp_restart_mean, sharp_restart_restricted_mean, optimal_restart_interval, geometric_restart_mean
Perturbations that are no restart:
    poisson_slope, cv_squared_from_slope, feedback_mean, perturbed_variance, reweighted_mean
Markov chains, exactly:
    Chain, ContinuousChain, restart_kernel, mean_first_passage_time, periodic_mean, periodic_survival,
    residual_survival_once, quasi_stationary_state, chain_poisson_slope, sample_first_passages, rational_chain,
    hidden_label_chain, waiting_time_chain
A coordinate in a potential:
    Potential, potential, mean_escape_time, interval_exit, grid_chain, EpochWalk
Measured first passages:
    FirstPassages, Survival, PerturbedOnce, constant_hazard_test, stationarity
Predictions from them:
    PerturbationData, Prediction, best_prediction, renewal_mean, predicted_restricted_mean, ProtocolMeans,
    choose_protocol
The size of a study:
    cheapest_design, runs_needed, horizon_needed, resolution_needed
Estimates and comparisons:
    Estimate, Comparison, agreement, compare, holm
Gradient noise:
    GradientNoise, WhiteNoise, Reshuffled, ReshuffledEvery, ShuffledOnce, Persistent, AntiCorrelatedIncrements,
    TabulatedNoise
Weights under that noise:
    HeavyBall, stationary_variances, stationary_covariance, squared_displacements, weight_autocovariance,
    phase_variances, loss_fluctuations, crossover_curvature, second_crossover_curvature
Temperature of SGD:
    lag_temperature, spectral_temperature, static_temperatures
Mean-field theory of a perceptron:
    MixturePerceptron, PerceptronTraining, FullBatch, BernoulliBatches, PersistentBatches, ReshuffledBatches,
    ShuffledOnceBatches, solve_mean_field, solve_ridge, MeanFieldSolution, temperature_of_solution
The widening valley:
    Valley, pgd_moments, anti_pgd_moments, anti_pgd_floor, pgd_flow, anti_pgd_flow, smoothing_variance
Activation patterns:
    temperature_of, share_of, temperature_of_counts, ErfLink, CloglogLink, GaussianFlips, fit_link_to_counts,
    fit_link_to_shares, CoolingController, CoolingLoop, target_curve
Noise on the weights:
    NoiseSchedule, with_budget, PhaseMachine, PhaseThresholds, injected_variances, noisy_variances,
    relative_variances, noise_temperature, mean_passage_steps
Computer algebra:
    derivation_names, derive
"""

from typing import TYPE_CHECKING

from theory import lazy_exports

if TYPE_CHECKING:
    from theory.activation_temperature import target_curve as target_curve
    from theory.adaptive_noise import injected_variances as injected_variances
    from theory.adaptive_noise import mean_passage_steps as mean_passage_steps
    from theory.adaptive_noise import noise_temperature as noise_temperature
    from theory.adaptive_noise import noisy_variances as noisy_variances
    from theory.adaptive_noise import relative_variances as relative_variances
    from theory.batch_selection import BernoulliBatches as BernoulliBatches
    from theory.batch_selection import FullBatch as FullBatch
    from theory.batch_selection import PersistentBatches as PersistentBatches
    from theory.batch_selection import ReshuffledBatches as ReshuffledBatches
    from theory.batch_selection import ShuffledOnceBatches as ShuffledOnceBatches
    from theory.chain_sampling import sample_first_passages as sample_first_passages
    from theory.continuous_chain import ContinuousChain as ContinuousChain
    from theory.cooling_controller import CoolingController as CoolingController
    from theory.cooling_controller import CoolingLoop as CoolingLoop
    from theory.data_needs import horizon_needed as horizon_needed
    from theory.data_needs import resolution_needed as resolution_needed
    from theory.data_needs import runs_needed as runs_needed
    from theory.derivations import derivation_names as derivation_names
    from theory.derivations import derive as derive
    from theory.diffusion_laws import Brownian as Brownian
    from theory.diffusion_laws import DriftDiffusion as DriftDiffusion
    from theory.diffusion_laws import Interval as Interval
    from theory.discrete_resetting import geometric_restart_mean as geometric_restart_mean
    from theory.discrete_resetting import optimal_restart_interval as optimal_restart_interval
    from theory.discrete_resetting import sharp_restart_mean as sharp_restart_mean
    from theory.discrete_resetting import sharp_restart_restricted_mean as sharp_restart_restricted_mean
    from theory.drift_diffusion_response import feedback_mean as feedback_mean
    from theory.effective_temperature import lag_temperature as lag_temperature
    from theory.effective_temperature import spectral_temperature as spectral_temperature
    from theory.effective_temperature import static_temperatures as static_temperatures
    from theory.enzyme_turnover import michaelis_menten as michaelis_menten
    from theory.epoch_noise import Reshuffled as Reshuffled
    from theory.epoch_noise import ReshuffledEvery as ReshuffledEvery
    from theory.epoch_walk import EpochWalk as EpochWalk
    from theory.escape import interval_exit as interval_exit
    from theory.escape import mean_escape_time as mean_escape_time
    from theory.estimate import Comparison as Comparison
    from theory.estimate import Estimate as Estimate
    from theory.estimate import agreement as agreement
    from theory.estimate import compare as compare
    from theory.estimate import holm as holm
    from theory.finite_range_noise import TabulatedNoise as TabulatedNoise
    from theory.flip_rate_fit import fit_link_to_counts as fit_link_to_counts
    from theory.flip_rate_fit import fit_link_to_shares as fit_link_to_shares
    from theory.flip_rate_link import CloglogLink as CloglogLink
    from theory.flip_rate_link import ErfLink as ErfLink
    from theory.fokker_planck import grid_chain as grid_chain
    from theory.gaussian_flips import GaussianFlips as GaussianFlips
    from theory.gradient_noise import AntiCorrelatedIncrements as AntiCorrelatedIncrements
    from theory.gradient_noise import Persistent as Persistent
    from theory.gradient_noise import WhiteNoise as WhiteNoise
    from theory.gradient_noise_base import GradientNoise as GradientNoise
    from theory.hazard import constant_hazard_test as constant_hazard_test
    from theory.heavy_ball import HeavyBall as HeavyBall
    from theory.heavy_tailed_times import LogNormal as LogNormal
    from theory.heavy_tailed_times import Pareto as Pareto
    from theory.heavy_tailed_times import Weibull as Weibull
    from theory.linear_response import chain_poisson_slope as chain_poisson_slope
    from theory.linear_response import cv_squared_from_slope as cv_squared_from_slope
    from theory.linear_response import poisson_slope as poisson_slope
    from theory.markov_chain import Chain as Chain
    from theory.markov_chain import mean_first_passage_time as mean_first_passage_time
    from theory.markov_chain import restart_kernel as restart_kernel
    from theory.mean_field import solve_mean_field as solve_mean_field
    from theory.mean_field_ridge import solve_ridge as solve_ridge
    from theory.mean_field_solution import MeanFieldSolution as MeanFieldSolution
    from theory.mean_field_temperature import temperature_of_solution as temperature_of_solution
    from theory.mixture_model import MixturePerceptron as MixturePerceptron
    from theory.mixture_model import PerceptronTraining as PerceptronTraining
    from theory.noise_schedule import NoiseSchedule as NoiseSchedule
    from theory.noise_schedule import with_budget as with_budget
    from theory.optimal_restart import optimal_interval as optimal_interval
    from theory.optimal_restart import optimal_rate as optimal_rate
    from theory.ornstein_uhlenbeck import OrnsteinUhlenbeck as OrnsteinUhlenbeck
    from theory.partial_resetting import perturbed_variance as perturbed_variance
    from theory.passage_law_base import PassageLaw as PassageLaw
    from theory.passage_laws import Deterministic as Deterministic
    from theory.passage_laws import EmpiricalLaw as EmpiricalLaw
    from theory.passage_laws import Mixture as Mixture
    from theory.passage_laws import SurvivalLaw as SurvivalLaw
    from theory.pattern_temperature import share_of as share_of
    from theory.pattern_temperature import temperature_of as temperature_of
    from theory.pattern_temperature import temperature_of_counts as temperature_of_counts
    from theory.perturbation import predicted_restricted_mean as predicted_restricted_mean
    from theory.perturbation import renewal_mean as renewal_mean
    from theory.perturbed_chain import periodic_mean as periodic_mean
    from theory.perturbed_chain import periodic_survival as periodic_survival
    from theory.perturbed_chain import residual_survival_once as residual_survival_once
    from theory.perturbed_once import PerturbedOnce as PerturbedOnce
    from theory.potentials import Potential as Potential
    from theory.potentials import potential as potential
    from theory.predicted_time import Prediction as Prediction
    from theory.predicted_time import best_prediction as best_prediction
    from theory.prediction import PerturbationData as PerturbationData
    from theory.protocol_choice import ProtocolMeans as ProtocolMeans
    from theory.protocol_choice import choose_protocol as choose_protocol
    from theory.quasi_stationary import quasi_stationary_state as quasi_stationary_state
    from theory.quasi_steady_state import stationarity as stationarity
    from theory.resetting import Restarted as Restarted
    from theory.restart_criterion import restart_helps as restart_helps
    from theory.single_order_noise import ShuffledOnce as ShuffledOnce
    from theory.state_dependent_noise import second_crossover_curvature as second_crossover_curvature
    from theory.study_design import cheapest_design as cheapest_design
    from theory.survival import FirstPassages as FirstPassages
    from theory.survival import Survival as Survival
    from theory.toy_chains import hidden_label_chain as hidden_label_chain
    from theory.toy_chains import rational_chain as rational_chain
    from theory.toy_chains import waiting_time_chain as waiting_time_chain
    from theory.training_phases import PhaseMachine as PhaseMachine
    from theory.training_phases import PhaseThresholds as PhaseThresholds
    from theory.trajectory_reweighting import reweighted_mean as reweighted_mean
    from theory.waiting_times import Exponential as Exponential
    from theory.waiting_times import Gamma as Gamma
    from theory.waiting_times import Hyperexponential as Hyperexponential
    from theory.waiting_times import erlang as erlang
    from theory.weight_covariance import stationary_covariance as stationary_covariance
    from theory.weight_variance import loss_fluctuations as loss_fluctuations
    from theory.weight_variance import squared_displacements as squared_displacements
    from theory.weight_variance import stationary_variances as stationary_variances
    from theory.weight_variance import weight_autocovariance as weight_autocovariance
    from theory.weight_variance_limits import crossover_curvature as crossover_curvature
    from theory.weight_variance_phases import phase_variances as phase_variances
    from theory.widening_valley import anti_pgd_flow as anti_pgd_flow
    from theory.widening_valley import pgd_flow as pgd_flow
    from theory.widening_valley import smoothing_variance as smoothing_variance
    from theory.widening_valley_moments import Valley as Valley
    from theory.widening_valley_moments import anti_pgd_floor as anti_pgd_floor
    from theory.widening_valley_moments import anti_pgd_moments as anti_pgd_moments
    from theory.widening_valley_moments import pgd_moments as pgd_moments

_SUBMODULES = {
    "PassageLaw": "passage_law_base",
    "SurvivalLaw": "passage_laws",
    "EmpiricalLaw": "passage_laws",
    "Mixture": "passage_laws",
    "Deterministic": "passage_laws",
    "Exponential": "waiting_times",
    "Hyperexponential": "waiting_times",
    "Gamma": "waiting_times",
    "erlang": "waiting_times",
    "Weibull": "heavy_tailed_times",
    "LogNormal": "heavy_tailed_times",
    "Pareto": "heavy_tailed_times",
    "Brownian": "diffusion_laws",
    "DriftDiffusion": "diffusion_laws",
    "Interval": "diffusion_laws",
    "OrnsteinUhlenbeck": "ornstein_uhlenbeck",
    "Restarted": "resetting",
    "restart_helps": "restart_criterion",
    "optimal_rate": "optimal_restart",
    "optimal_interval": "optimal_restart",
    "michaelis_menten": "enzyme_turnover",
    "sharp_restart_mean": "discrete_resetting",
    "sharp_restart_restricted_mean": "discrete_resetting",
    "optimal_restart_interval": "discrete_resetting",
    "geometric_restart_mean": "discrete_resetting",
    "poisson_slope": "linear_response",
    "cv_squared_from_slope": "linear_response",
    "feedback_mean": "drift_diffusion_response",
    "perturbed_variance": "partial_resetting",
    "reweighted_mean": "trajectory_reweighting",
    "Chain": "markov_chain",
    "ContinuousChain": "continuous_chain",
    "restart_kernel": "markov_chain",
    "mean_first_passage_time": "markov_chain",
    "periodic_mean": "perturbed_chain",
    "periodic_survival": "perturbed_chain",
    "residual_survival_once": "perturbed_chain",
    "quasi_stationary_state": "quasi_stationary",
    "chain_poisson_slope": "linear_response",
    "sample_first_passages": "chain_sampling",
    "rational_chain": "toy_chains",
    "hidden_label_chain": "toy_chains",
    "waiting_time_chain": "toy_chains",
    "Potential": "potentials",
    "potential": "potentials",
    "mean_escape_time": "escape",
    "interval_exit": "escape",
    "grid_chain": "fokker_planck",
    "EpochWalk": "epoch_walk",
    "FirstPassages": "survival",
    "Survival": "survival",
    "PerturbedOnce": "perturbed_once",
    "constant_hazard_test": "hazard",
    "stationarity": "quasi_steady_state",
    "PerturbationData": "prediction",
    "Prediction": "predicted_time",
    "best_prediction": "predicted_time",
    "renewal_mean": "perturbation",
    "predicted_restricted_mean": "perturbation",
    "ProtocolMeans": "protocol_choice",
    "choose_protocol": "protocol_choice",
    "cheapest_design": "study_design",
    "runs_needed": "data_needs",
    "horizon_needed": "data_needs",
    "resolution_needed": "data_needs",
    "Estimate": "estimate",
    "Comparison": "estimate",
    "agreement": "estimate",
    "compare": "estimate",
    "holm": "estimate",
    "GradientNoise": "gradient_noise_base",
    "WhiteNoise": "gradient_noise",
    "Reshuffled": "epoch_noise",
    "ReshuffledEvery": "epoch_noise",
    "ShuffledOnce": "single_order_noise",
    "Persistent": "gradient_noise",
    "AntiCorrelatedIncrements": "gradient_noise",
    "TabulatedNoise": "finite_range_noise",
    "HeavyBall": "heavy_ball",
    "stationary_variances": "weight_variance",
    "stationary_covariance": "weight_covariance",
    "squared_displacements": "weight_variance",
    "weight_autocovariance": "weight_variance",
    "phase_variances": "weight_variance_phases",
    "loss_fluctuations": "weight_variance",
    "crossover_curvature": "weight_variance_limits",
    "second_crossover_curvature": "state_dependent_noise",
    "lag_temperature": "effective_temperature",
    "spectral_temperature": "effective_temperature",
    "static_temperatures": "effective_temperature",
    "MixturePerceptron": "mixture_model",
    "PerceptronTraining": "mixture_model",
    "FullBatch": "batch_selection",
    "BernoulliBatches": "batch_selection",
    "PersistentBatches": "batch_selection",
    "ReshuffledBatches": "batch_selection",
    "ShuffledOnceBatches": "batch_selection",
    "solve_mean_field": "mean_field",
    "solve_ridge": "mean_field_ridge",
    "MeanFieldSolution": "mean_field_solution",
    "temperature_of_solution": "mean_field_temperature",
    "Valley": "widening_valley_moments",
    "pgd_moments": "widening_valley_moments",
    "anti_pgd_moments": "widening_valley_moments",
    "anti_pgd_floor": "widening_valley_moments",
    "pgd_flow": "widening_valley",
    "anti_pgd_flow": "widening_valley",
    "smoothing_variance": "widening_valley",
    "temperature_of": "pattern_temperature",
    "share_of": "pattern_temperature",
    "temperature_of_counts": "pattern_temperature",
    "ErfLink": "flip_rate_link",
    "CloglogLink": "flip_rate_link",
    "GaussianFlips": "gaussian_flips",
    "fit_link_to_counts": "flip_rate_fit",
    "fit_link_to_shares": "flip_rate_fit",
    "CoolingController": "cooling_controller",
    "CoolingLoop": "cooling_controller",
    "target_curve": "activation_temperature",
    "NoiseSchedule": "noise_schedule",
    "with_budget": "noise_schedule",
    "PhaseMachine": "training_phases",
    "PhaseThresholds": "training_phases",
    "injected_variances": "adaptive_noise",
    "noisy_variances": "adaptive_noise",
    "relative_variances": "adaptive_noise",
    "noise_temperature": "adaptive_noise",
    "mean_passage_steps": "adaptive_noise",
    "derivation_names": "derivations",
    "derive": "derivations",
}

if not TYPE_CHECKING:
    __all__ = list(_SUBMODULES)
    __getattr__, __dir__ = lazy_exports.lazy_exports(__name__, _SUBMODULES)
