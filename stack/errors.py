"""Errors of the stack. Each message says what is wrong, where, and what to do.

StackError
├── BuildError   a component cannot be built
└── RunError     a component cannot be started or does not become healthy
"""


class StackError(Exception):
    """Base class of all errors of the stack."""


class BuildError(StackError):
    """A component cannot be built."""


class RunError(StackError):
    """A component cannot be started or does not become healthy."""
