"""Shared by the rows of the protocol of Liang et al. 2018: ours beside reference implementations on the same split.

The reference implementations get their settings on the validation part, from a small grid. Ours are as the product has
them. `evaluate --export-split FOLDER` writes list files: `train.txt`; `validation-known.txt` and `validation.txt`;
`test-known.txt` and `test.txt` (what is given of each held-out user, and what has to be found).
"""

import itertools

from harness.evaluation import evaluate, mean, notes
from harness.figures import CannotMeasure, Figure, Measured
from harness.fitting import ours, peer

MEASURES = ["ndcg@100", "recall@20"]
SHARE = 0.99
L2 = [50, 100, 200, 400, 800]
REGULARIZATION = [0.01, 0.1, 1.0, 10.0]
ALPHA = [1.0, 5.0, 20.0]


class Split:
    def __init__(self, folder, item_count):
        self.folder, self.item_count = folder, item_count

    def part(self, name, cutoff):
        """The arguments of a fit that is judged on this part."""
        known, test = self.folder / f"{name}-known.txt", self.folder / f"{name}.txt"
        return {
            "train": self.folder / "train.txt",
            "fold_in": known,
            "test": test,
            "item_count": self.item_count,
            "cutoff": cutoff,
        }


def tuned(workbench, script, split, grid):
    """The peer's quality on the test part with the settings that are best on the validation part."""

    def on_validation(options):
        return peer(workbench, script, *options, **split.part("validation", 100))["quality"]["ndcg@100"]

    best = max(grid, key=on_validation)
    quality = {}
    for cutoff in (20, 100):
        quality |= peer(workbench, script, *best, **split.part("test", cutoff))["quality"]
    return quality, " ".join(str(word) for word in best)


def measure(workbench, data):
    if "--export-split" not in workbench.watershed("evaluate", "--help"):
        raise CannotMeasure("this build's `watershed evaluate` has no --export-split, which the reference needs")
    exported = workbench.folder("split")
    options = ["--data", data, "--protocol", "liang", "--min-rating", "4", "--cutoffs", "10,20,100"]
    if workbench.quick:
        options += ["--algorithms", "linear,factors,hybrid"]
    report = evaluate(workbench, *options, "--export-split", exported)
    split = Split(exported, report["split"]["items"])

    workbench.say("tuning the reference implementations on the validation part")
    ease_grid = [["--l2", str(l2)] for l2 in workbench.pick(L2, L2[:1])]
    pairs = itertools.product(workbench.pick(REGULARIZATION, [0.1]), workbench.pick(ALPHA, [1.0]))
    als_grid = [["--regularization", str(one), "--alpha", str(two)] for one, two in pairs]
    references = {
        "ease": ("numpy EASE", *tuned(workbench, "numpy_ease.py", split, ease_grid)),
        "als": ("implicit ALS", *tuned(workbench, "implicit_als.py", split, als_grid)),
    }
    figures, lines = [], notes(report, MEASURES)
    for algorithm, (name, quality, settings) in references.items():
        for measured in MEASURES:
            value, theirs = mean(report, algorithm, measured), quality[measured]
            what = f"{algorithm} {measured}"
            figures.append(Figure(what, value, at_least=SHARE * theirs, peer=theirs, peer_name=name))
        lines.append(f"{name}: {settings}, the best of its grid on the validation part")

    # The same equations with the same setting, which must give the same model but for rounding.
    paper = {"l2": 200.0, "l2_exponent": 0.0, "user_exponent": 0.0, "input_exponent": 0.0, "output_exponent": 0.0}
    test = split.part("test", 100)
    mine = ours(workbench, "ease", paper, **test)["quality"]["ndcg@100"]
    theirs = peer(workbench, "numpy_ease.py", "--l2", "200", **test)["quality"]["ndcg@100"]
    gap = abs(mine / theirs - 1.0)
    figures.append(Figure("EASE of the paper, l2 200: relative gap", gap, at_most=1.0 - SHARE))

    for measured in MEASURES:
        over = report["rows"]["hybrid"]["measures"][measured]["over_best_part"]
        gain = over["difference"]
        figures.append(Figure(f"hybrid {measured} over its best part ({over['part']})", gain["mean"], at_least=1e-9))
        lines.append(f"hybrid over {over['part']}, {measured}: 95 % interval [{gain['low']:.4f}, {gain['high']:.4f}]")
    return Measured(figures, lines)
