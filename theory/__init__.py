"""Closed forms and deterministic numerics; needs numpy, scipy and sympy only."""
