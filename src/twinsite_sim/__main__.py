"""`python -m twinsite_sim --seed 1 --worlds 1000`: worlds from a seed on, on all processors; what fails is shown."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable

from twinsite_sim.trace import LINES_SHOWN
from twinsite_sim.world import WorldResult, run_world

PROGRESS_SECONDS = 30.0


def main() -> int:
    """Run worlds; return 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m twinsite_sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--worlds", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worlds at the same time")
    parser.add_argument("--trace", action="store_true", help="show the whole story of each world")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.worlds)
    if arguments.jobs == 1 or len(seeds) == 1:
        one_by_one = (run_world(seed) for seed in seeds)
        return _report(one_by_one, len(seeds), whole=arguments.trace, keep_going=arguments.keep_going)
    with multiprocessing.Pool(arguments.jobs, maxtasksperchild=50) as pool:
        results = pool.imap_unordered(_run_lean, seeds, chunksize=4)
        return _report(results, len(seeds), whole=arguments.trace, keep_going=arguments.keep_going)


def _run_lean(seed: int) -> WorldResult:
    result = run_world(seed)
    if result.failure is None:
        result.trace.lines.clear()
    else:
        result.failure = AssertionError(describe(result.failure))
    return result


def describe(failure: BaseException) -> str:
    """Say what failed, and where if that was a bug and not a checker's word."""
    import traceback  # noqa: PLC0415

    if type(failure).__name__ == "WorldFailure":
        return str(failure)
    return "".join(traceback.format_exception(failure))


def _report(results: Iterable[WorldResult], count: int, *, whole: bool, keep_going: bool) -> int:
    started_at = time.monotonic()
    shown_at = started_at
    done = answered = failures = steps = 0
    virtual_seconds = 0.0
    operations: Counter[str] = Counter()
    needed: Counter[str] = Counter()
    for result in results:
        done += 1
        answered += result.answered
        virtual_seconds += result.virtual_seconds
        steps += result.steps
        operations.update(result.operations)
        needed.update({**dict.fromkeys(result.help, 1), **({} if result.help else {"nothing": 1})})
        if whole:
            print("\n".join(result.trace.lines))
        if result.failure is not None:
            failures += 1
            if not whole:
                print(f"last {LINES_SHOWN} lines of the story:\n{result.trace.tail()}")
            print(f"SEED {result.seed} FAILS: {describe(result.failure)}")
            print(f"replay it with: make sim SEED={result.seed} (story: SIM_ARGS=--trace)", flush=True)
            if not keep_going:
                break
        if time.monotonic() - shown_at > PROGRESS_SECONDS:
            shown_at = time.monotonic()
            print(f"{done} of {count} worlds, {answered} answered requests, {failures} failures", flush=True)
    seconds = time.monotonic() - started_at
    print(
        f"{done} worlds, {failures} failures, {answered} answered requests, {steps} events, "
        f"{virtual_seconds:.0f} virtual seconds in {seconds:.1f} s; operators: {dict(sorted(operations.items()))}"
    )
    print(f"worlds by what operators had to do after the faults: {dict(sorted(needed.items()))}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
