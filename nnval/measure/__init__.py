"""Measurements on training runs and networks."""
