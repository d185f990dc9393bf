"""The command line of the bench."""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinsite.core.limits import BLOCK_BYTES, GIB, KIB, MIB

ROUNDS_MAX = 100
SECONDS_MAX = 3600.0
SIZE_BYTES_MIN = 4 * MIB
SIZE_BYTES_MAX = 1024 * GIB
SAVE_NAME_MAX = 64
RAW = "raw"
PEERS = (RAW, "nbdkit", "nbdcopy", "qemu", "rsync", "dd")
"""What can be picked to measure against; `raw` is the file itself, without a server."""

_UNITS = {"K": KIB, "M": MIB, "G": GIB}


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure. `size_bytes` is the volume of the full syncs; `seconds` the length of one run of writes.

    With names in `report`, nothing is measured: the report of these stored results is written anew.
    """

    cases: tuple[str, ...]
    size_bytes: int
    seconds: float
    rounds: int
    seed: int
    directory: Path
    save: str | None
    peers: tuple[str, ...] = PEERS
    report: tuple[str, ...] = ()

    def wants(self, *programs: str) -> bool:
        """Say whether every one of the programs was picked, by its name or by its family's: `qemu` picks `qemu-img`."""
        return all(
            any(program == peer or program.startswith(f"{peer}-") for peer in self.peers) for program in programs
        )


def parse_options(
    arguments: Sequence[str], case_names: Sequence[str], families: Mapping[str, Sequence[str]] | None = None
) -> Options:
    """Parse the arguments; exits with a usage message, as argparse does, when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Twinsite side by side with nbdkit, nbdcopy and QEMU, in one run."
    )
    parser.add_argument(
        "--cases",
        type=_NameList("case", case_names, families or {}),
        default=tuple(case_names),
        help="comma-separated: " + ", ".join([*(families or {}), *case_names]),
    )
    parser.add_argument(
        "--peers", type=_NameList("peer", PEERS, {}), default=PEERS, help="comma-separated: " + ", ".join(PEERS)
    )
    parser.add_argument("--size", type=_size, default=GIB, help="volume of the full syncs, as 256M or 4G (default 1G)")
    parser.add_argument("--seconds", type=_seconds, default=2.0, help="length of one run of writes (default 2)")
    parser.add_argument("--rounds", type=_rounds, default=3, help="how often each side is measured (default 3)")
    parser.add_argument("--seed", type=int, help="for the content and the places of writes (default: a new one)")
    parser.add_argument("--directory", type=Path, default=Path("/tmp"), help="where the volumes lie (default /tmp)")
    parser.add_argument("--save", type=_save_name, help="also write bench/results/NAME.*", metavar="NAME")
    parser.add_argument(
        "--report",
        help="measure nothing: write the report of bench/results/NAME.json anew; of several, joined, with --save",
        metavar="NAME[,NAME]",
    )
    parsed = parser.parse_args(arguments)
    report = () if parsed.report is None else tuple(name.strip() for name in parsed.report.split(","))
    if report:
        _check_report(parser, parsed, report)
    _check_plot_names(parser, parsed.save, case_names)
    seed = random.SystemRandom().getrandbits(32) if parsed.seed is None else parsed.seed
    return Options(
        parsed.cases,
        parsed.size,
        parsed.seconds,
        parsed.rounds,
        seed,
        parsed.directory,
        parsed.save,
        parsed.peers,
        report,
    )


def is_save_name(text: str) -> bool:
    """Say whether results can be stored under a name."""
    plain = text.replace("-", "").replace("_", "").replace(".", "").isalnum()
    return plain and not text.startswith(".") and len(text) <= SAVE_NAME_MAX


def _check_report(parser: argparse.ArgumentParser, parsed: argparse.Namespace, report: tuple[str, ...]) -> None:
    """End with a usage message when nothing can be done with the other options."""
    measuring = ("cases", "peers", "size", "seconds", "rounds", "seed", "directory")
    given = [f"--{name}" for name in measuring if getattr(parsed, name) != parser.get_default(name)]
    if given:
        parser.error(f"--report measures nothing: leave out {', '.join(given)}")
    if len(report) > 1 and parsed.save is None:
        parser.error("--report of several results needs --save, the name of the joined one")
    if len(report) > 1 and parsed.save in report:
        parser.error(f"--save {parsed.save} would overwrite one of the results that are joined")


def _check_plot_names(parser: argparse.ArgumentParser, save: str | None, case_names: Sequence[str]) -> None:
    """End with a usage message when the plots of this name would be taken for those of another, shorter one."""
    for case in case_names:
        for longer in case_names:
            if save is not None and longer.endswith(f"-{case}") and f"{save}-{case}".endswith(f"-{longer}"):
                parser.error(f"--save {save}: the plot of {case} would be called as that of {longer} of another name")


class _NameList:
    """Turns `a,b` into known names, in the order in which they are defined; a family's name stands for all in it."""

    def __init__(self, kind: str, names: Sequence[str], families: Mapping[str, Sequence[str]]) -> None:
        self._kind = kind
        self._names = names
        self._families = families

    def __call__(self, text: str) -> tuple[str, ...]:
        given = {name.strip() for name in text.split(",")}
        unknown = sorted(given - set(self._names) - set(self._families))
        if unknown:
            known = ", ".join([*self._families, *self._names])
            raise argparse.ArgumentTypeError(f"no {self._kind} {', '.join(unknown)}; there are {known}")
        wanted = {name for one in given for name in self._families.get(one, (one,))}
        return tuple(name for name in self._names if name in wanted)


def _size(text: str) -> int:
    digits = text.upper().removesuffix("IB").removesuffix("B")
    unit = _UNITS.get(digits[-1:], 1)
    number = digits[:-1] if unit > 1 else digits
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 256M or 4G")
    size_bytes = int(number) * unit
    if not SIZE_BYTES_MIN <= size_bytes <= SIZE_BYTES_MAX or size_bytes % BLOCK_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} must be from 4M to 1024G and a multiple of 64K")
    return size_bytes


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to {SECONDS_MAX:g}")
    return seconds


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= ROUNDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {ROUNDS_MAX}")
    return int(text)


def _save_name(text: str) -> str:
    if not is_save_name(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be made of letters, digits, '-', '_' and '.', {SAVE_NAME_MAX} at most, with no '.' in front"
        )
    return text
