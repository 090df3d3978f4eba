"""A made-up artifact: what `/artifacts` sends.

In: the path inside the container and a text. Out: a .tar.gz that holds one file of that path; the same bytes for the
same text, since no time is written into it.
"""

from __future__ import annotations

import gzip
import io
import tarfile


def tar_gz(path: str, text: str) -> bytes:
    """Pack one text file under its path, without the leading slash, as tar does."""
    content = text.encode()
    entry = tarfile.TarInfo(path.lstrip("/") or "artifact")
    entry.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)
