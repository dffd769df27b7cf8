"""The version, in a file of its own that setuptools reads without importing Keras."""

__version__ = "0.1.0"
