"""Drift: no alarm where nothing drifts, an alarm in March 2020, and p-values equal to scipy's on the same samples."""

import json

from harness.figures import Figure, Measured
from harness.workbench import ROOT

NAME = "models-drift"
WHAT = "monitors of ten features that hang together, over all their looks, without drift; daily changes of six series in 2020"
BAR = "false alarms over a monitor's whole life <= 5 % on normal and lognormal data; March 2020 is detected"

# Both are exact; what is left is rounding over a few ten thousand sums.
AGREEMENT = 1e-9


def compare(workbench, told):
    """The largest difference to scipy's p-values over the looks of 2020, and scipy's p-values of March."""
    reference = told["reference"]
    cases = [
        (look, feature, [reference[feature["feature"]], look["values"][feature["feature"]]])
        for look in told["looks"]
        for feature in look["report"]["features"]
        if feature["p_value"] is not None
    ]
    pairs = workbench.folder("drift") / "pairs.json"
    pairs.write_text(json.dumps([pair for _, _, pair in cases]))
    peer = workbench.run_json([workbench.python(), ROOT / "bench" / "peers" / "scipy_ks.py", pairs])
    largest, march = 0.0, {}
    for (look, feature, _), (statistic, p_value) in zip(cases, peer["tests"]):
        largest = max(largest, abs(statistic - feature["statistic"]), abs(p_value - feature["p_value"]))
        if look["month"] == 3:
            march[feature["feature"]] = p_value
    return largest, march, peer["version"]


def measure(workbench):
    command = [workbench.binary("bench-drift"), "--data", workbench.data("treasury").parent]
    told = workbench.run_json(command + (["--quick"] if workbench.quick else []))
    largest, march, version = compare(workbench, told["year_2020"])
    found = told["year_2020"]["looks"]
    naive = f"scipy {version}, each p <= .05"
    figures = []
    for kind in ("normal", "lognormal"):
        figures.append(
            Figure(f"monitors that alarm, {kind}", told[kind]["alarmed"], at_most=0.05, peer=told[kind]["naive"], peer_name=naive)
        )
    figures += [
        Figure("March 2020 detected", int(found[2]["drifted"]), at_least=1),
        Figure("largest difference to scipy's statistics and p-values", largest, at_most=AGREEMENT),
        Figure("months of January and February 2020 that alarm", sum(look["drifted"] for look in found[:2])),
        Figure("months of 2019 that alarm, against 2016-2018", sum(look["drifted"] for look in told["year_2019"]["looks"])),
    ]
    for feature in found[2]["report"]["features"]:
        name = f"March 2020, {feature['feature']}, p after Holm{' (drifted)' if feature['drifted'] else ''}"
        figures.append(
            Figure(name, feature["adjusted_p_value"], peer=march.get(feature["feature"]), peer_name="scipy, not adjusted")
        )
    notes = [
        f"{told['runs']} monitors of {told['looks']} looks of {told['rows_per_look']} rows, {told['features']} features; "
        f"comparing each p-value with .05 alarms at {told['normal']['naive_per_look']:.0%} of the looks",
        "reference 2017-2019, looks January to March 2020; yields in percentage points, logarithms of WTI, Brent and the VIX",
    ]
    return Measured(figures, notes)
