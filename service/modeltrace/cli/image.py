"""`modeltrace image`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.image.context import write_context
from modeltrace.bundles.verify_outputs import verify_example
from modeltrace.cli.options import TrustCode, TrustPickle, local_bundle
from modeltrace.settings import read_settings
from modeltrace.terminal import echo


def image(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            show_default="MODELTRACE_BUNDLE",
            help="The bundle to serve, as for `modeltrace serve`.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default="NAME-image", help="The folder to write.")
    ] = None,
    trust_pickle: TrustPickle = None,
    trust_code: TrustCode = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing folder.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Write a Dockerfile and its build context for an image that serves a bundle.

    The image contains the bundle, this version of Modeltrace, and the packages that are installed here, in the same
    versions. It runs as an unprivileged user. What the bundle needs to be trusted is decided here: --trust-pickle and
    --trust-code become settings of the image.

    Example: modeltrace image churn && docker build --tag churn churn-image
    """
    settings = read_settings(bundle=bundle, trust_pickle=trust_pickle, trust_code=trust_code)
    folder = local_bundle(settings.bundle_source())
    model = load_bundle(
        folder,
        trust_pickle=settings.trust_pickle,
        trust_code=settings.trust_code,
        trusted_types=settings.trusted_types,
    )
    verify_example(model)
    context = write_context(
        folder,
        out or Path(f"{folder.resolve().name}-image"),
        trust_pickle=settings.trust_pickle,
        trust_code=settings.trust_code,
        trusted_types=settings.trusted_types,
        force=force,
    )
    echo(f"Wrote {context.folder} for {model.name} {model.version}, with {context.packages} packages")
    if context.unhashed:
        echo(f"Pinned by version only, because their hashes are not known here: {', '.join(context.unhashed)}")
    where = shlex.quote(str(context.folder))
    echo(f"Next: docker build --tag {context.tag} {where}")
    echo(f"Then: docker run --publish 127.0.0.1:8000:8000 --env MODELTRACE_API_KEY=… {context.tag}")
