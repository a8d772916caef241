"""For tools that still call it; what there is to say of the package is in pyproject.toml."""

from setuptools import setup

setup()
