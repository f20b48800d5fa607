"""Measurements, one question a module: `python -m benchmarks --help`."""
