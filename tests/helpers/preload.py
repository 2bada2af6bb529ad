"""What the fork server imports before it forks: the packages of service, hub and command line, and no test's."""

import gc
import importlib
import pkgutil

import hub
import service

# Programs run when they are imported, or need libraries that are not here.
PROGRAMS = {"__main__", "programs"}

for package in (service, hub):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if PROGRAMS.isdisjoint(module.name.split(".")):
            importlib.import_module(module.name)

# A fork shares these objects' memory until something writes to it; the collector would, by counting their references.
gc.collect()
gc.freeze()
