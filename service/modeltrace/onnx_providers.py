"""Execution providers of ONNX Runtime: the hardware that it computes with, by the names of ONNX Runtime."""

from collections.abc import Iterable, Sequence
from typing import Final

from modeltrace.errors import SettingsError

CPU_PROVIDER: Final = "CPUExecutionProvider"
NVIDIA_PROVIDERS: Final = frozenset(
    {"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"}
)


def check_providers(providers: Iterable[str], usable: Sequence[str], description: str) -> None:
    """Check that all providers are among the usable ones, which the message lists after their description.

    Raises:
        SettingsError: a provider is not usable.
    """
    if missing := [provider for provider in providers if provider not in usable]:
        raise SettingsError(
            f"MODELTRACE_ONNX_PROVIDERS: {', '.join(missing)} cannot be used; {description}: {', '.join(usable)}"
        )
