"""`python -m modeltrace.local.parent_watch MODULE …`: see the docstring of the package."""

import runpy
import sys

from modeltrace.local.parent_watch import stop_with_parent

stop_with_parent()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
