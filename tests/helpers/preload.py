"""What the fork server imports before it forks: the packages of service, hub and command line, and no test's."""

import atexit
import gc
import importlib
import os
import pkgutil

import hub
import service

# Programs run when they are imported, or need libraries that are not here.
PROGRAMS = {"__main__", "programs"}
FORK_SERVER = os.getpid()


def end_in_silence() -> None:
    """DuckDB's binding reports what lives until the fork server ends as leaks. Forks run this at their end, too."""
    if os.getpid() == FORK_SERVER:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


for package in (service, hub):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if PROGRAMS.isdisjoint(module.name.split(".")):
            importlib.import_module(module.name)
atexit.register(end_in_silence)

# A fork shares these objects' memory until something writes to it; the collector would, by counting their references.
gc.collect()
gc.freeze()
