"""Experiments on real networks: training ensembles, measurements on them, and tools for a user's own training loop."""
