"""The location of a token store: a local path or a URL."""

from pathlib import Path
from urllib.parse import quote

import tensorstore as ts


def open_files(url: str) -> ts.KvStore:
    """Opens the files of a store at a local path or a TensorStore URL.

    Raises ValueError for an empty path, one with a backslash, and one that TensorStore cannot open.
    """
    if not url.strip():
        raise ValueError(
            "the path of the token store is empty (Mixture.store, PrepareData.store): give its folder or URL"
        )
    if "://" not in url:
        path = str(Path(url).absolute())
        if "\\" in path:
            raise ValueError(f"the token store {path}: TensorStore takes \\ for /, so take a path without it")
        url = "file://" + quote(path)
    try:
        return ts.KvStore.open(url.rstrip("/") + "/").result()
    except ValueError as error:
        raise ValueError(f"{url} is not a path or URL that TensorStore can open: {error}") from None
