"""One fit, ours or a peer's, each in a process of its own, each on one thread."""

import json
import statistics

from .workbench import ROOT, clean_environment


def ours(workbench, algorithm, settings, **lists):
    command = [workbench.binary("bench-fit"), "--algorithm", algorithm, "--settings", json.dumps(settings)]
    return workbench.run_json(command + _options(lists), minutes=120)


def peer(workbench, script, *options, **lists):
    """A script of `bench/peers`."""
    command = [workbench.python(), ROOT / "bench" / "peers" / script, *options]
    threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return workbench.run_json(command + _options(lists), minutes=120, environment=clean_environment(**threads))


def _options(lists):
    words = []
    for name, value in lists.items():
        if value is True:
            words.append("--" + name.replace("_", "-"))
        elif value not in (None, False):
            words += ["--" + name.replace("_", "-"), str(value)]
    return words


def in_turns(rounds, *fits):
    """Runs the fits one after another, `rounds` times, so that a busy moment of the machine meets all of them. Returns
    the run of each with its median processor time."""
    runs = [[fit() for fit in fits] for _ in range(rounds)]
    medians = []
    for place in range(len(fits)):
        of_fit = sorted((run[place] for run in runs), key=lambda run: run["cpu_seconds"])
        medians.append(of_fit[len(of_fit) // 2])
        medians[-1]["all_cpu_seconds"] = [round(run["cpu_seconds"], 3) for run in of_fit]
        medians[-1]["median"] = statistics.median(run["cpu_seconds"] for run in of_fit)
    return medians
