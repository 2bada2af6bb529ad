"""The options of commands that start a server with TLS. Each is also a setting, see `TlsSettings`."""

from pathlib import Path
from typing import Annotated

import typer

TlsCertificate = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Use TLS on all ports, with this certificate in PEM format."),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", show_default="in the certificate's file", help="The certificate's private key."),
]
TlsClientCa = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Accept only clients with a certificate of one of these CAs.")
]
