"""Imports each of the packages named on the command line, and says which version it got."""

import importlib
import sys
from importlib.metadata import packages_distributions, version

modules = {name.lower(): module for module, names in packages_distributions().items() for name in names}
for package in sys.argv[1:]:
    importlib.import_module(modules[package.lower()])
    print(f"imported {package} {version(package)}")
