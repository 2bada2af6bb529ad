"""ONNX Runtime computes with the execution providers of the settings, or the service does not start."""

from pathlib import Path

import onnxruntime
import pytest
from sklearn.linear_model import LogisticRegression

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.errors import SettingsError
from modeltrace.serving.bundle_loader import load_model
from modeltrace.settings import read_settings
from tests.helpers.estimators import LABELS, X, fit, iris_frame

AZURE, CPU, CUDA = "AzureExecutionProvider", "CPUExecutionProvider", "CUDAExecutionProvider"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small bundle with a model for ONNX Runtime."""
    out = tmp_path_factory.mktemp("bundles") / "iris"
    return pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=out, onnx=True)


def test_the_default_is_the_cpu(bundle: Path) -> None:
    """A model on the CPU may run on the event loop."""
    assert read_settings().onnx_providers == (CPU,)
    assert load_bundle(bundle, engine="onnx").cpu_bound


@pytest.mark.skipif(AZURE not in onnxruntime.get_available_providers(), reason="this build has no other provider")
def test_another_provider_predicts_the_same(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service loads the model with the providers of the settings. Such a model may wait, so it runs on a thread."""
    monkeypatch.setenv("MODELTRACE_ENGINE", "onnx")
    monkeypatch.setenv("MODELTRACE_ONNX_PROVIDERS", f"{AZURE}, {CPU}, {AZURE}")
    model, watch = load_model(read_settings(bundle=str(bundle)))
    watch.loader.close()

    assert not model.cpu_bound
    assert model.predict(X) == load_bundle(bundle, engine="onnx").predict(X)


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this build computes with CUDA")
def test_an_absent_provider_is_an_error(bundle: Path) -> None:
    """The message names the variable, the provider and those that the installed package has."""
    providers = ", ".join(onnxruntime.get_available_providers())
    with pytest.raises(SettingsError) as raised:
        load_bundle(bundle, engine="onnx", onnx_providers=[CUDA, CPU])

    assert str(raised.value) == (
        f"MODELTRACE_ONNX_PROVIDERS: {CUDA} cannot be used; ONNX Runtime {onnxruntime.__version__} has: {providers}"
    )


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this build computes with CUDA")
def test_a_provider_that_does_not_start_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself would compute on the CPU, and only write a warning."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    with (
        pytest.warns(UserWarning, match=CUDA),
        pytest.raises(SettingsError, match=rf"{CUDA} cannot be used; ONNX Runtime could start .*: {CPU}$"),
    ):
        load_bundle(bundle, engine="onnx", onnx_providers=[CUDA, CPU])


def test_an_empty_list_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least one provider is needed."""
    monkeypatch.setenv("MODELTRACE_ONNX_PROVIDERS", ",")
    with pytest.raises(SettingsError, match=r"MODELTRACE_ONNX_PROVIDERS: .*at least 1 item"):
        read_settings()
