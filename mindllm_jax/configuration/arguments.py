"""The command line of every entry point: gin files, overrides and the flags that all share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.checks import local_path


class Flag(NamedTuple):
    """A flag of one entry point, in addition to the shared ones."""

    name: str  # without the dashes
    help: str
    setting: str = ""  # receives the value, as "Planner.topology"; "": a switch without a value


class Arguments(NamedTuple):
    """The parsed command line of an entry point."""

    files: tuple[Path, ...]
    overrides: tuple[str, ...]  # "Class.field=value"
    workdir: Path | None
    dry_run: bool
    print_config: bool
    accept_changes: bool
    switches: frozenset[str] = frozenset()  # names of the entry point's switches that were given


def without_settings(description: str | None) -> None:
    """Parses the command line of an entry point that has no settings; exits with status 2 on any word but --help."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.parse_args()


def make_parser(description: str | None, flags: tuple[Flag, ...], *, dry_run: bool = True) -> argparse.ArgumentParser:
    """Returns the parser of the shared flags and the entry point's own; it leaves `--gin.NAME=VALUE` over.

    dry_run: whether the entry point has a dry run.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="any setting can be given as --gin.NAME=VALUE; --print_config lists them all with where each was set",
        allow_abbrev=False,
    )
    parser.add_argument("--gin", action="append", default=[], metavar="FILE", help="gin file; later files win")
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run: state, metrics, report")
    if dry_run:
        parser.add_argument("--dry_run", action="store_true", help="print what would be done, with its cost, and stop")
    parser.add_argument(
        "--print_config", action="store_true", help="print every setting and where it was set, and stop"
    )
    parser.add_argument("--accept_changes", action="store_true", help="resume in a workdir made with other settings")
    for flag in flags:
        if flag.setting:
            parser.add_argument(f"--{flag.name}", metavar=flag.name.upper(), help=f"{flag.help} ({flag.setting})")
        else:
            parser.add_argument(f"--{flag.name}", action="store_true", help=flag.help)
    return parser


def command_line(
    description: str | None, argv: list[str] | None = None, *, flags: tuple[Flag, ...] = (), dry_run: bool = True
) -> Arguments:
    """Parses the shared flags and the entry point's own; exits with status 2 and one message on an unknown flag.

    Raises ValueError for a word that this locale cannot encode, and for a path that is not one of this machine.
    """
    words = sys.argv[1:] if argv is None else argv
    for word in words:
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise ValueError(f"{word!a}: not text in this locale's encoding; set LC_ALL=C.UTF-8 or PYTHONUTF8=1")
    parser = make_parser(description, flags, dry_run=dry_run)
    known, rest = parser.parse_known_args(words)
    for item in rest:
        if not (item.startswith("--gin.") and "=" in item):
            hint = " (write --gin.NAME=VALUE)" if item.startswith("--gin.") else ""
            parser.error(f"unknown argument {item!r}{hint}")
    given = {flag: getattr(known, flag.name) for flag in flags}
    overrides = [item.removeprefix("--gin.") for item in rest]
    overrides += [f"{flag.setting}={value}" for flag, value in given.items() if flag.setting and value is not None]
    files = tuple(local_path("--gin", file) for file in known.gin)
    workdir = None if known.workdir is None else local_path("--workdir", known.workdir)
    if workdir is not None and workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir {workdir} is a file; give a folder")
    switches = frozenset(flag.name for flag, value in given.items() if not flag.setting and value)
    return Arguments(
        files,
        tuple(overrides),
        workdir,
        getattr(known, "dry_run", False),
        known.print_config,
        known.accept_changes,
        switches,
    )
