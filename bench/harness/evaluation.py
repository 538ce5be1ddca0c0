"""`watershed evaluate`, and its table as a dictionary."""

import json


def evaluate(workbench, *options, seed=42, minutes=240):
    """Returns the report; rows are at the name of their algorithm."""
    report_file = workbench.folder("evaluation") / "report.json"
    workbench.say("watershed evaluate " + " ".join(str(option) for option in options))
    workbench.watershed("evaluate", *options, "--seed", seed, "--json", report_file, minutes=minutes)
    report = json.loads(report_file.read_text())
    rows = {row["algorithm"]: row for row in report["rows"]}
    report["rows"] = rows
    for row in rows.values():
        row["measures"] = {figure["measure"]: figure for figure in row["measures"]}
    return report


def mean(report, algorithm, measure):
    return report["rows"][algorithm]["measures"][measure]["value"]["mean"]


def notes(report, measures):
    """Every row of the table, so that none is picked for the reader."""
    split = report["split"]
    sizes = f"{split['users']} users, {split['items']} items, {split['test_users']} tested"
    lines = [f"split: {split['protocol']}; {sizes}", *(f"  {note}" for note in split["notes"])]
    for name, row in report["rows"].items():
        parts = []
        for measure in measures:
            value = row["measures"][measure]["value"]
            parts.append(f"{measure} {value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]")
        seconds = row["timing"]["fit_seconds"] if row["timing"] else 0.0
        lines.append(f"  {name:12} " + "  ".join(parts) + f"  fit {seconds:.1f} s")
        if row.get("parts"):
            lines.append(f"  {'':12} of {', '.join(row['parts'])}")
        if row.get("search"):
            search = row["search"]
            gain = f"{search['measure']} {search['first'] or 0.0:.4f} -> {search['best']:.4f}"
            lines.append(f"  {'':12} validation {gain} in {search['trials']} trials: {json.dumps(row['settings'])}")
    return lines
