"""Lists the raw files that a setting names: files, folders and globs on any fsspec file system."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mindllm_jax.corpus.reading.formats import SUFFIXES, suffix
from mindllm_jax.files import files_below
from mindllm_jax.text.names import source_name


def raw_files(inputs: Sequence[str]) -> list[str]:
    """Returns the files that `inputs` name, sorted and unique: local paths as given, others as full URLs.

    Args:
        inputs: files, folders (with all below them) and globs; local paths or fsspec URLs ("s3://bucket/zh/*.jsonl.gz").

    Files in a folder whose names begin with "." or "_" are ignored, as Spark and Hadoop do. Files that are named
    themselves or by a glob may have any suffix. Links to local folders are followed.

    Raises:
        OSError: an input matches no file, or a local folder cannot be read.
        ValueError: there is no input, no such fsspec file system, or a folder has files of unknown suffixes.
    """
    if not inputs:
        raise ValueError("no input files are given; name files, folders or globs")
    paths: set[str] = set()
    unknown: list[str] = []
    for name in inputs:
        fs, path = file_system(name)
        local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
        if fs.isdir(path):
            root = path.rstrip("/") + "/"
            below = [file.as_posix() for file in files_below(Path(path))] if local else fs.find(path)
            files = [file for file in below if not _is_ignored(file.removeprefix(root).split("/"))]
            unknown += [file for file in files if suffix(file) not in SUFFIXES]
            hint = "the folder has no files"
        elif fs.exists(path):
            files, hint = [path], ""
        else:
            files = [file for file in fs.glob(path) if not fs.isdir(file)] if any(c in path for c in "*?[") else []
            hint = (
                "nothing matches; quote globs, and write ** for folders below" if "*" in path else "it does not exist"
            )
        if not files:
            raise FileNotFoundError(f"no files at {name}: {hint}")
        paths.update(file if local else fs.unstrip_protocol(file) for file in files)
    if unknown:
        counts = Counter(suffix(file) for file in unknown)
        kinds = ", ".join(f"{count} x {'.' + kind if kind else 'no suffix'}" for kind, count in counts.most_common(8))
        raise ValueError(
            f"the folders hold {len(unknown)} files of unknown kinds ({kinds}), such as {min(unknown)}; move them away,"
            f" or name what to read with a glob (known are {', '.join(SUFFIXES)}, plain or compressed)"
        )
    return sorted(paths)


def require_outside(place: str, setting: str, inputs: Sequence[str]) -> None:
    """Raises ValueError if the folder `place` of a setting is in a local folder of `inputs`, where it would be read."""
    for name in inputs:
        folder, inside = Path(file_system(name)[1]).resolve(), Path(place).resolve()
        if "://" in name or not folder.is_dir() or not inside.is_relative_to(folder):
            continue
        if not _is_ignored(inside.relative_to(folder).parts):
            raise ValueError(
                f"{setting} = {place} is in the input folder {name}: its files would be read as raw files when the"
                " command resumes; set a folder outside"
            )


def _is_ignored(parts: Sequence[str]) -> bool:
    return any(part.startswith((".", "_")) for part in parts)


def file_system(name: str) -> tuple[Any, str]:
    """Returns the fsspec file system of a path or URL, and the path in it.

    Raises:
        ValueError: there is no such file system.
        ImportError: its package is not installed.
    """
    try:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem
    except ImportError as error:
        raise ImportError("reading raw files needs fsspec: pip install 'mindllm-jax[data]'") from error
    if "://" not in name:  # fsspec takes `::` in a name for a chain of file systems
        return LocalFileSystem(), Path(name).expanduser().absolute().as_posix()
    try:
        return url_to_fs(name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    except ImportError as error:
        raise ImportError(f"{name}: {error}") from error


def short_names(files: Sequence[str]) -> list[str]:
    """Returns the last parts of the paths, as many as make them unique.

    Ids of documents contain them, so they are the same on every machine.
    """
    parts = [file.rstrip("/").split("/") for file in files]
    depth = 1
    while len({tuple(p[-depth:]) for p in parts}) < len(set(files)):
        depth += 1
    return ["/".join(p[-depth:]) for p in parts]


def default_sources(files: Sequence[str], by: Literal["file", "folder"]) -> list[str]:
    """Returns the source of each file's documents that do not name one.

    It is the name of the file without suffixes, or by folder that of the folder. Text files and pages of a folder that
    has several of them are of one source, the folder's: each is a single document.
    """
    places = [file.rstrip("/").rpartition("/") for file in files]
    single = [SUFFIXES.get(suffix(name)) in ("plain", "html") for _, _, name in places]
    counts = Counter(folder for (folder, _, _), one in zip(places, single, strict=True) if one)
    sources: list[str] = []
    for (folder, _, name), one in zip(places, single, strict=True):
        folder_name = folder.rpartition("/")[2]
        of_folder = folder_name and (by == "folder" or (one and counts[folder] > 1))
        sources.append(source_name(folder_name if of_folder else name.lstrip(".").split(".")[0]))
    return sources


def sizes(files: Sequence[str]) -> list[tuple[str, int | None]]:
    """Returns the short name and, if the server reports it, the size of each file: the same for a copy elsewhere."""
    places = map(file_system, files)
    return [(name, fs.size(path)) for name, (fs, path) in zip(short_names(files), places, strict=True)]
