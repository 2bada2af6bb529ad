"""skops trusts the same names, whether it finds the estimators itself or gets them from the list."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from modeltrace.bundles.artifact import load_artifact
from modeltrace.bundles.estimator_names import NAMES
from modeltrace.errors import UntrustedModelError
from tests.helpers.estimator_names import trusted_names

pytestmark = pytest.mark.slow

ESTIMATOR = "sklearn.linear_model._logistic.LogisticRegression"
HOSTILE = (
    "sklearn.externals._packaging.version.Version",
    "sklearn.externals.array_api_compat.numpy.LogisticRegression",
    "sklearn.datasets._openml.fetch_openml",
    "sklearn.datasets._base.load_files",
    "sklearn.utils._testing.MinimalClassifier",
    "sklearn.utils._testing.raises",
    "sklearn.utils.estimator_checks.check_estimator",
    "sklearn.base.BaseEstimator",
    "sklearn.base.ClassifierMixin",
    "sklearn.linear_model._base.LinearModel",
    "sklearn.linear_model._logistic.LogisticRegression.fit",
    "sklearn.linear_model.LogisticRegression",  # where users import it from: files name the module that defines it
    "sklearn.linear_model._logistic.LogisticRegression ",
    "sklearn.linear_model._logistic.logisticregression",
    "sklearn.linear_model._logistic.\uff2cogisticRegression",
    "sklearn.linear_model._logistic..LogisticRegression",
    "sklearn/linear_model/_logistic.LogisticRegression",
    "sklearn.linear_model._logistic.LogisticRegression\0",
    "sklearn.linear_model._logistic.*",
    "sklearn._this_is_no_module.Estimator",
    "antigravity.sklearn.linear_model._logistic.LogisticRegression",
    "..sklearn.linear_model._logistic.LogisticRegression",
    ".",
)


def artifact(*names: str, loader: str = "ObjectNode") -> bytes:
    """Return a skops file: a list with an object of each name."""
    inner = None if loader == "ObjectNode" else []
    content = []
    for name in names:
        module, _, kind = name.rpartition(".")
        content.append({"__class__": kind, "__module__": module, "__loader__": loader, "content": inner})
    listed = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": content}
    sink = io.BytesIO()
    with ZipFile(sink, "w") as archive:
        archive.writestr("schema.json", json.dumps({**listed, "protocol": 2, "_skops_version": "0.16.0"}))
    return sink.getvalue()


def as_sets(names: Mapping[str, Sequence[str]]) -> Mapping[str, set[str]]:
    """Return the lists as sets."""
    return {kind: set(value) for kind, value in names.items()}


@pytest.fixture(scope="module")
def oracle() -> Mapping[str, Sequence[str]]:
    """Return the names that skops trusts if it is imported without this project, in another process."""
    return trusted_names()


def test_skops_trusts_exactly_the_same_names(oracle: Mapping[str, Sequence[str]]) -> None:
    """Every list of trusted names in skops is the same, wherever the estimators come from."""
    message = "the libraries have changed: ./dev run python -m tests.helpers.estimator_names, and read the difference"

    assert set(NAMES) == set(oracle["SKLEARN_ESTIMATOR_TYPE_NAMES"]), message
    assert as_sets(trusted_names("import modeltrace.bundles.skops_io\n")) == as_sets(oracle)


@pytest.mark.parametrize("library", ["scikit-learn", "skops"])
def test_with_another_version_skops_finds_the_names_itself(library: str, oracle: Mapping[str, Sequence[str]]) -> None:
    """The list is not used with other versions than it was made for."""
    other = (
        "from modeltrace.bundles import estimator_names\n"
        f"estimator_names.VERSIONS[{library!r}] = '0.1'\n"
        "estimator_names.NAMES = ['os.system']\n"
        "import modeltrace.bundles.skops_io\n"
    )

    assert as_sets(trusted_names(other)) == as_sets(oracle)


def test_scikit_learn_keeps_its_own_function() -> None:
    """`all_estimators` is restored as soon as skops is imported."""
    program = (
        "import sklearn.utils\n"
        "before = sklearn.utils.all_estimators\n"
        "import modeltrace.bundles.skops_io\n"
        "assert sklearn.utils.all_estimators is before\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_outside_the_list_is_refused(name: str) -> None:
    """A name that only looks like an estimator's is not trusted, whatever type of node it has."""
    load_artifact(artifact(ESTIMATOR), "skops", source="honest")

    with pytest.raises(UntrustedModelError, match=re.escape(f"not trusted: {name}. If you trust them")):
        load_artifact(artifact(ESTIMATOR, name), "skops", source="forged")


@pytest.mark.parametrize("loader", ["TypeNode", "FunctionNode", "ListNode", "SetNode", "TupleNode"])
def test_an_estimator_is_trusted_as_an_object_only(loader: str) -> None:
    """An estimator's name as a type, function or container is refused, as skops itself refuses it."""
    raw = artifact(ESTIMATOR, loader=loader)

    with pytest.raises(UntrustedModelError, match="LogisticRegression"):
        load_artifact(raw, "skops", source="forged")


def test_refusing_a_name_imports_nothing(tmp_path: Path) -> None:
    """An artifact is refused by its names: no module that it names is imported, not even of scikit-learn."""
    file = tmp_path / "forged.skops"
    file.write_bytes(artifact("sklearn.cross_decomposition._pls.PLSRegression", *HOSTILE))
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from modeltrace.errors import UntrustedModelError\n"
        "from modeltrace.bundles.artifact import load_artifact\n"
        "before = set(sys.modules)\n"
        "try:\n"
        f"    load_artifact(Path({str(file)!r}).read_bytes(), 'skops', source='forged')\n"
        "except UntrustedModelError:\n"
        "    pass\n"
        "else:\n"
        "    raise AssertionError\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    # zipfile decodes file names with this module.
    assert set(process.stdout.split()) <= {"encodings.cp437"}
