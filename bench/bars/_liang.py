"""Shared by the rows of the protocol of Liang et al. 2018: ours beside reference implementations on the same splits.

Both sides get their settings on the validation part, never on the test part: ours by `evaluate --tune`, the reference
implementations from a grid. `evaluate --export-split FOLDER` writes list files: `train.txt`; `validation-known.txt` and
`validation.txt`; `test-known.txt` and `test.txt` (what is given of each held-out user, and what has to be found). Under
this protocol one training part serves validation and test; `validation-train.txt` is the same file.

Where the data are few, one split decides little: then several are drawn, by seeds that are fixed beforehand, and means
over them are compared. Ratings of at least 4 are kept and count 1, as in the paper. Targets are drawn at random, so that
algorithms that live on order are left out. One part of the hybrid knows the films' genres, titles and years; the references
and the other parts do not.
"""

import itertools
import statistics

from harness.evaluation import evaluate, mean, notes
from harness.figures import CannotMeasure, Figure, Measured
from harness.fitting import ours, peer

ALGORITHMS = "neighbours,linear,factors,graph,content,user_neighbours,hybrid"
TRIALS = 20
MEASURES = ["ndcg@100", "recall@20"]
SHARE = 0.99
L2 = [100, 200, 400, 800, 1600]
REGULARIZATION = [0.1, 1.0, 10.0, 30.0]
ALPHA = [1.0, 5.0, 20.0]
FACTORS = [32, 64, 128]


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


def best(workbench, script, split, grid):
    """The settings of the grid with which the peer is best on the validation part."""

    def on_validation(options):
        return peer(workbench, script, *options, **split.part("validation", 100))["quality"]["ndcg@100"]

    return max(grid, key=on_validation)


def on_test(workbench, script, split, options):
    quality = {}
    for cutoff in (20, 100):
        quality |= peer(workbench, script, *options, **split.part("test", cutoff))["quality"]
    return quality, " ".join(str(word) for word in options)


def numpy_ease(workbench, split):
    grid = [["--l2", str(l2)] for l2 in workbench.pick(L2, L2[:1])]
    return on_test(workbench, "numpy_ease.py", split, best(workbench, "numpy_ease.py", split, grid))


def implicit_als(workbench, split):
    """Regularisation and alpha first, then with the best of them the number of factors."""
    script = "implicit_als.py"
    pairs = itertools.product(workbench.pick(REGULARIZATION, [0.1]), workbench.pick(ALPHA, [1.0]))
    grid = [["--regularization", str(one), "--alpha", str(two)] for one, two in pairs]
    pair = best(workbench, script, split, grid)
    grid = [[*pair, "--factors", str(count)] for count in workbench.pick(FACTORS, FACTORS[:1])]
    return on_test(workbench, script, split, best(workbench, script, split, grid))


def one_split(workbench, data, seed):
    """Our report, the references' quality on the same split, and how far EASE is from numpy with the paper's setting."""
    exported = workbench.folder("split")
    options = ["--data", data, "--protocol", "liang", "--min-rating", "4", "--cutoffs", "10,20,100"]
    options += ["--algorithms", workbench.pick(ALGORITHMS, "linear,factors,content,hybrid")]
    options += ["--tune", "--tune-budget", str(workbench.pick(TRIALS, 2)), "--export-split", exported]
    report = evaluate(workbench, *options, seed=seed)
    split = Split(exported, report["split"]["items"])
    workbench.say("tuning the reference implementations on the validation part")
    references = {"ease": numpy_ease(workbench, split), "als": implicit_als(workbench, split)}
    # The same equations with the same setting, which must give the same model but for rounding.
    exponents = ("l2_exponent", "user_exponent", "input_exponent", "output_exponent")
    paper = {"l2": 200.0, **dict.fromkeys(exponents, 0.0)}
    test = split.part("test", 100)
    mine = ours(workbench, "ease", paper, **test)["quality"]["ndcg@100"]
    theirs = peer(workbench, "numpy_ease.py", "--l2", "200", **test)["quality"]["ndcg@100"]
    return report, references, abs(mine / theirs - 1.0)


def measure(workbench, data, seeds):
    if "--export-split" not in workbench.watershed("evaluate", "--help"):
        raise CannotMeasure("this build's `watershed evaluate` has no --export-split, which the reference needs")
    splits = [one_split(workbench, data, seed) for seed in workbench.pick(seeds, seeds[:1])]
    reports = [report for report, _, _ in splits]
    figures, lines = [], []
    for algorithm, name in (("ease", "numpy EASE"), ("als", "implicit ALS")):
        for measured in MEASURES:
            value = statistics.fmean(mean(report, algorithm, measured) for report in reports)
            theirs = statistics.fmean(references[algorithm][0][measured] for _, references, _ in splits)
            what = f"{algorithm} {measured}"
            figures.append(Figure(what, value, at_least=SHARE * theirs, peer=theirs, peer_name=name))
    gap = max(gap for _, _, gap in splits)
    figures.append(Figure("EASE of the paper, l2 200: relative gap", gap, at_most=1.0 - SHARE))
    for measured in MEASURES:
        figures.append(over_parts(reports, measured, lines))
    if len(splits) > 1:
        lines.append(f"means over {len(splits)} splits, seeds {', '.join(str(seed) for seed in seeds)}")
        lines += means(reports)
    for report, references, _ in splits:
        lines += notes(report, MEASURES)
        chosen = ", ".join(f"{name}: {settings}" for name, (_, settings) in references.items())
        lines.append(f"  references, the best of their grid on the validation part: {chosen}")
    return Measured(figures, lines)


def over_parts(reports, measured, lines):
    """The hybrid against the part with the highest mean over all splits."""
    parts = [name for name in reports[0]["rows"] if name != "hybrid"]
    values = {name: [mean(report, name, measured) for report in reports] for name in [*parts, "hybrid"]}
    part = max(parts, key=lambda name: statistics.fmean(values[name]))
    gains = [ours - theirs for ours, theirs in zip(values["hybrid"], values[part])]
    if len(gains) > 1:
        error = statistics.stdev(gains) / len(gains) ** 0.5
        lines.append(f"hybrid over {part}, {measured}: standard error over the splits {error:.4f}")
    else:
        over = reports[0]["rows"]["hybrid"]["measures"][measured]["over_best_part"]["difference"]
        lines.append(f"hybrid over {part}, {measured}: 95 % interval [{over['low']:.4f}, {over['high']:.4f}]")
    what = f"hybrid {measured} over its best part ({part})"
    return Figure(what, statistics.fmean(gains), at_least=1e-9)


def means(reports):
    for name in reports[0]["rows"]:
        values = (f"{what} {statistics.fmean(mean(report, name, what) for report in reports):.4f}" for what in MEASURES)
        yield f"  {name:12} " + "  ".join(values)
