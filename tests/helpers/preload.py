"""Import all modules of service and hub in the fork server, before it forks."""

import atexit
import gc
import importlib
import os
import pkgutil

for variable in [name for name in os.environ if name.startswith(("OTEL_", "MODELTRACE_"))]:
    del os.environ[variable]  # settings of the developer must not affect the imports

import modeltrace  # noqa: E402  after the environment is cleared
import modeltrace_hub  # noqa: E402  see above

# Modules that run a program when they are imported, or need libraries that are not installed.
PROGRAMS = {"__main__", "programs"}
FORK_SERVER_PID = os.getpid()


def silence_stderr_at_exit() -> None:
    """Discard stderr when the fork server exits, because DuckDB's binding reports live objects as leaks then.

    Forks inherit this handler, in which it does nothing.
    """
    if os.getpid() == FORK_SERVER_PID:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


for package in (modeltrace, modeltrace_hub):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if PROGRAMS.isdisjoint(module.name.split(".")):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                raise RuntimeError(f"{module.name} cannot be preloaded") from error  # an ImportError would be ignored
atexit.register(silence_stderr_at_exit)

# Forks share the memory of these objects until it is modified. Without the freeze, each garbage collection modifies it.
gc.collect()
gc.freeze()
