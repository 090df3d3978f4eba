"""A certificate that signs itself, for servers of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import pytest


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """The files of a certificate for this name (`IP:127.0.0.1`, `DNS:localhost`) and of its key."""
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("makes its certificate with openssl, which is not here: install openssl")
    made, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={name}"),
            *("-keyout", str(key), "-out", str(made)),
        ],
        check=True,
        capture_output=True,
    )
    return made, key
