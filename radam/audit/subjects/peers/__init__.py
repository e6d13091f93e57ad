"""Optimizers of other packages, a module for each, imported where the package is asked for."""
