"""Perceptrons that several tests simulate."""

from theory.batch_selection import BernoulliBatches
from theory.mixture_model import MixturePerceptron, PerceptronTraining

RIDGE = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
WIDE = MixturePerceptron(sample_ratio=0.5, noise_variance=0.5)
LOGISTIC = MixturePerceptron(2.0, 0.5, "logistic", weight_decay=0.5)
HINGE = MixturePerceptron(sample_ratio=1.5, noise_variance=1.0, loss="squared_hinge")
DOOR = MixturePerceptron(2.0, 0.5, "logistic", clusters=3, activation="door", weight_decay=0.5, door_width=0.7)
TRAINING = PerceptronTraining(learning_rate=0.4)
SGD = BernoulliBatches(0.25)
