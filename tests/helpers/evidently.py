"""Compute drift and quality metrics of two samples with Evidently, as a reference for Modeltrace's metrics.

Evidently runs in its virtual environment (`modeltrace.report.venvs`), which is installed at its first use.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from modeltrace.report.venvs import EVIDENTLY, ensure_venv

PROGRAM = Path(__file__).with_name("evidently_program.py")
Value = float | str | None


@dataclass(frozen=True)
class EvidentlyOracle:
    """A process with Evidently, which is started only once because the imports take seconds."""

    process: subprocess.Popen[str]

    def drift(
        self,
        method: Literal["psi", "jensenshannon", "ks", "chisquare", "z", "wasserstein", "kl_div", "TVD"],
        reference: Sequence[Value],
        window: Sequence[Value],
        *,
        kind: Literal["num", "cat"] = "cat",
    ) -> float:
        """Return the result of a drift method.

        `psi` uses natural logarithms, `jensenshannon` is the *distance* in nats, and `ks` the p-value.

        With `kind="cat"` the values are the bins, so Evidently computes no bins. `psi` replaces a share of 0
        (`replace_zero_shares`); `jensenshannon` does not.
        """
        return float(self._request("drift", method=method, reference=list(reference), window=list(window), kind=kind))

    def drift_many(self, questions: Sequence[dict[str, Any]]) -> list[float]:
        """Return the results for a list of arguments of `drift`."""
        return [float(score) for score in self._request("many", questions=list(questions))]

    def bin_shares(self, reference: Sequence[float], window: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return the shares of numbers in the bins that Evidently uses for `psi`, with zeros replaced."""
        reference_shares, window_shares = self._request("shares", reference=list(reference), window=list(window))
        return reference_shares, window_shares

    def classification(
        self, true: Sequence[str], predicted: Sequence[str], *, positive: str | None = None
    ) -> dict[str, Any]:
        """Return `accuracy`, and `precision`, `recall` and `f1` of `positive` or as a mean, and `by_label`."""
        answer: dict[str, Any] = self._request(
            "classification", true=list(true), predicted=list(predicted), positive=positive
        )
        return answer

    def regression(self, true: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
        """Return `mae`, `rmse` and `r2`."""
        answer: dict[str, float] = self._request("regression", true=list(true), predicted=list(predicted))
        return answer

    def _request(self, question: str, **arguments: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"question": question, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the program with Evidently has ended; see its stderr"
        return json.loads(line)


def replace_zero_shares(shares: Sequence[float]) -> list[float]:
    """Replace shares of 0 like Evidently's PSI: by 0.0001, or by a millionth of the smallest share if that is less."""
    smallest = min(share for share in shares if share > 0)
    floor = smallest / 10**6 if smallest <= 0.0001 else 0.0001
    return [share or floor for share in shares]


@contextmanager
def start_evidently() -> Iterator[EvidentlyOracle]:
    """Start Evidently in its virtual environment, which the first call on a machine installs."""
    python = ensure_venv(EVIDENTLY, lambda _: None)
    command = [str(python), "-I", str(PROGRAM)]
    with (
        TemporaryDirectory() as home,
        subprocess.Popen(
            command, env={"DO_NOT_TRACK": "1", "HOME": home},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        yield EvidentlyOracle(process)
