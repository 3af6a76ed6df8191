"""Simulators of jostle's toy models, and the random streams that simulation and training share."""
