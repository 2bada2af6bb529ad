"""Every error that the stack raises on purpose. Each message says what is wrong, where, and what to do.

StackError
├── BuildError   a part cannot be built
└── RunError     a part cannot be started, or does not become healthy
"""


class StackError(Exception):
    """What all of them are."""


class BuildError(StackError):
    """A part cannot be built."""


class RunError(StackError):
    """A part cannot be started, or does not become healthy."""
