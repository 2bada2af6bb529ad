"""Load the user's modules of a bundle, if they are trusted and their requirements are met."""

from pathlib import Path

from modeltrace.bundles.code.archive import read_archive
from modeltrace.bundles.code.importer import OwnCode
from modeltrace.bundles.code.requirements import check_requirements
from modeltrace.bundles.manifest import Manifest, read_verified
from modeltrace.errors import UntrustedModelError


def load_code(bundle: Path, manifest: Manifest, *, trusted: bool) -> OwnCode | None:
    """Check the requirements of a bundle, and make its modules available to imports.

    Returns:
        The modules, which are not imported yet; `None` if the bundle contains none.

    Raises:
        UntrustedModelError: the bundle contains modules and they are not trusted.
        IncompatibleBundleError: a package that the code needs is missing or has another version.
        BundleError: a file is damaged.
    """
    if manifest.code is not None and not trusted:
        raise UntrustedModelError(
            f"{bundle} contains code that runs when the model is loaded: the modules "
            f"{', '.join(manifest.code.modules)} in {manifest.code.file}. If you wrote or reviewed it, allow it with "
            "--trust-code or MODELTRACE_TRUST_CODE=true"
        )
    if manifest.requirements is not None:
        check_requirements(bundle, read_verified(bundle / manifest.requirements.file, manifest.requirements))
    if manifest.code is None:
        return None
    path = bundle / manifest.code.file
    return OwnCode(read_archive(read_verified(path, manifest.code), path), str(path))
