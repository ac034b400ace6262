"""`python -m tests.benchmarks`: measure relaycall beside plain aiortc. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tests.benchmarks.report import Figure, Report, Table

NAMES = (
    "setup",
    "phone",
    "probe",
    "packet_cost",
    "call_cpu",
    "packet_sizes",
    "signaling",
    "sealing",
    "media_cost",
    "failover",
    "false_moves",
    "heard",
    "mouth_to_ear",
    "voice_quality",
    "adaptation",
    "cut",
    "profiles",
)
DEFAULT_RUNS = 3
MEDIA_COST_SECONDS = 6.0  # for each run


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="which (see --list); default: all")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, help="repetitions of each (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value to FILE as well")
    parser.add_argument("--list", action="store_true", help="say what there is")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.list:
        for name in NAMES:
            print(f"{name:15}{_title(name)}")
        return
    machine = conditions()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    found = {}
    for name in options.names or NAMES:
        started = time.monotonic()
        report = _run(name, options.runs)
        for table in report.tables:
            print(f"\n{table}")
        print(f"({name}: {time.monotonic() - started:.0f} s)", flush=True)
        found[name] = report.as_json()
    if options.json:
        options.json.write_text(json.dumps({"conditions": machine, "benchmarks": found}, indent=2) + "\n")


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"tests.benchmarks.{name}")


def _title(name: str) -> str:
    """What it measures: its title, or the first line of its description."""
    module = _module(name)
    return getattr(module, "TITLE", None) or (module.__doc__ or "").partition("\n")[0]


def _run(name: str, runs: int) -> Report:
    if name == "media_cost":  # medians of its own, as numbers
        found = _module(name).run(MEDIA_COST_SECONDS * runs)
        table = Table(_title("media_cost"), ["", "median"])
        for key, value in found.items():
            table.add(key, Figure.of([value]))
        return Report([table], {key: Figure.of([value]) for key, value in found.items()})
    report: Report = asyncio.run(_module(name).measure(runs))
    return report


def conditions() -> dict[str, str]:
    """What the figures depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("aiortc", "aioice", "av")}
    return {
        "Python": platform.python_version(),
        **packages,
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


if __name__ == "__main__":
    main()
