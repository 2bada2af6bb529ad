"""What Evidently itself says of two samples: an oracle for our own figures.

It runs in Evidently's own environment (`modeltrace.report.venvs`), which is installed the first time it is asked.
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
    """Evidently, asked in a process of its own, which is started once: its imports take seconds."""

    process: subprocess.Popen[str]

    def drift(
        self,
        method: Literal["psi", "jensenshannon", "ks", "chisquare", "z", "wasserstein", "kl_div", "TVD"],
        reference: Sequence[Value],
        window: Sequence[Value],
        *,
        kind: Literal["num", "cat"] = "cat",
    ) -> float:
        """What a drift method says.

        `psi` has natural logarithms, `jensenshannon` is the *distance* with them, `ks` the p-value.

        With `kind="cat"` the values are the bins, and no bins of Evidently's own come between. A share of 0 becomes
        0.0001 in `psi` (`filled`); in `jensenshannon` it stays.
        """
        return float(self._request("drift", method=method, reference=list(reference), window=list(window), kind=kind))

    def drift_many(self, questions: Sequence[dict[str, Any]]) -> list[float]:
        """The answers to many questions (the arguments of `drift`) with one start of Evidently."""
        return [float(one) for one in self._request("many", questions=list(questions))]

    def bin_shares(self, reference: Sequence[float], window: Sequence[float]) -> tuple[list[float], list[float]]:
        """The shares of numbers in the bins that Evidently makes of them for `psi`, its zeros filled."""
        one, other = self._request("shares", reference=list(reference), window=list(window))
        return one, other

    def classification(
        self, true: Sequence[str], predicted: Sequence[str], *, positive: str | None = None
    ) -> dict[str, Any]:
        """`accuracy`, `precision`, `recall`, `f1` of `positive`, or the mean over classes; and `by_label`."""
        answer: dict[str, Any] = self._request(
            "classification", true=list(true), predicted=list(predicted), positive=positive
        )
        return answer

    def regression(self, true: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
        """`mae`, `rmse`, `r2`."""
        answer: dict[str, float] = self._request("regression", true=list(true), predicted=list(predicted))
        return answer

    def _request(self, question: str, **arguments: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"question": question, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "Evidently's program has ended; see what it wrote to stderr"
        return json.loads(line)


def replace_zero_shares(shares: Sequence[float]) -> list[float]:
    """Shares as Evidently's PSI takes them: 0 becomes 0.0001, or a millionth of the least where that is not more."""
    least = min(share for share in shares if share > 0)
    floor = least / 10**6 if least <= 0.0001 else 0.0001
    return [share or floor for share in shares]


@contextmanager
def start_evidently() -> Iterator[EvidentlyOracle]:
    """Evidently in its environment; the first call on a machine installs it."""
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
