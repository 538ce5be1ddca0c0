"""What EASE costs to fit on Gowalla, whose 40,981 items make a dense inverse of 6.7 GB in single precision.

Two comparisons. Dense against dense on the most popular items, as many as the product fits densely. And the whole
catalogue as the product fits it (sparsely) against dense numpy: where memory allows numpy is run, elsewhere its time is
scaled up from the smaller run by the cube of the sizes. That is an estimate and named so: not all of it is cubic.
"""

from harness import lists, machine
from harness.figures import Figure, Measured
from harness.fitting import in_turns, ours, peer

from . import _fit
from .recommend_fit_ease_ml1m import PAPER

NAME = "recommend-fit-ease-gowalla"
WHAT = "EASE on Gowalla: processor time to fit, dense on the top items and the whole catalogue, beside numpy"
BAR = "CPU seconds <= 1.0 x numpy+OpenBLAS; Recall@20 >= 0.99 x 0.1765 (EASE, published)"

DENSE_ITEMS = 12_000
PUBLISHED_RECALL = 0.1765
# Of a square matrix of the catalogue's size in single precision; numpy holds four at the peak.
MATRICES_AT_PEAK = 4


def numpy(workbench, method, **lists_of):
    options = ["--l2", "200", "--method", method, "--precision", "single"]
    return peer(workbench, "numpy_ease.py", *options, skip_quality=True, test=lists_of["train"], **lists_of)


def measure(workbench):
    data = _fit.gowalla(workbench)
    data = _fit.smaller(workbench, data) if workbench.quick else data
    count = min(workbench.pick(DENSE_ITEMS, 500), data["item_count"])
    popular = {"train": lists.most_popular(data["train"], count, workbench.folder("popular")), "item_count": count}
    mine, general, strongest = in_turns(
        1,
        lambda: ours(workbench, "ease", PAPER, **popular),
        lambda: numpy(workbench, "inv", **popular),
        lambda: numpy(workbench, "potri", **popular),
    )
    dense, theirs = mine["cpu_seconds"], general["cpu_seconds"]
    what = f"CPU, dense, top {count:,} items"
    figures = [
        Figure(what, dense, "s", at_most=theirs, peer=theirs, peer_name="numpy.linalg.inv"),
        Figure(what, dense, "s", peer=strongest["cpu_seconds"], peer_name="LAPACK potri"),
    ]
    bytes_needed = MATRICES_AT_PEAK * 4 * data["item_count"] ** 2
    if machine.available_bytes() > bytes_needed:
        whole = {"train": data["train"], "item_count": data["item_count"]}
        theirs, name = numpy(workbench, "potri", **whole)["cpu_seconds"], "LAPACK potri, whole catalogue"
    else:
        theirs = strongest["cpu_seconds"] * (data["item_count"] / count) ** 3
        name = f"LAPACK potri, estimated from {count:,} items"
    product = ours(workbench, "sparse-ease", {}, **data)
    cpu, recall = product["cpu_seconds"], product["quality"]["recall@20"]
    least = 0.99 * PUBLISHED_RECALL
    figures += [
        Figure("CPU, whole catalogue, as the product fits it", cpu, "s", at_most=theirs, peer=theirs, peer_name=name),
        Figure("Recall@20 of that", recall, at_least=least, peer=PUBLISHED_RECALL, peer_name="EASE, published"),
    ]
    return Measured(figures, ["all on one thread"])
