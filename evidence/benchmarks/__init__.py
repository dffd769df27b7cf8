"""The benchmarks: a module each, run by `python -m evidence.benchmarks.NAME`."""
