"""Shared by the rows that time a fit: the lists, and ours beside a peer in turns."""

import itertools

from harness import lists
from harness.figures import Figure, Measured
from harness.fitting import in_turns, ours, peer


def ml1m(workbench):
    """Train and test lists of ML-1M, without and with the last item of each user."""
    train, test, count = lists.last_item_out(workbench.data("ml-1m/sequences.txt"), workbench.folder("lists"))
    return {"train": train, "test": test, "item_count": count}


def gowalla(workbench):
    train, test = workbench.data("gowalla/train.txt"), workbench.data("gowalla/test.txt")
    return {"train": train, "test": test, "item_count": lists.item_count(train, test)}


def smaller(workbench, data):
    """The first users only, for a quick run."""
    folder = workbench.folder("small")
    for name in ("train", "test"):
        rows = ((user, items) for user, items in lists.read(data[name]) if user < 200)
        lists.write(folder / f"{name}.txt", rows)
    count = lists.item_count(folder / "train.txt", folder / "test.txt")
    return {"train": folder / "train.txt", "test": folder / "test.txt", "item_count": count}


def validation(workbench, data):
    """The same lists without the last item of each user, which is to be found."""
    folder = workbench.folder("validation")
    rows = [(user, items) for user, items in lists.read(data["train"]) if len(items) > 1]
    lists.write(folder / "train.txt", ((user, items[:-1]) for user, items in rows))
    lists.write(folder / "test.txt", ((user, items[-1:]) for user, items in rows))
    return {**data, "train": folder / "train.txt", "test": folder / "test.txt"}


def als(workbench, data):
    """64 factors, 15 iterations, 3 conjugate gradient steps, which is what both do by default. Their losses differ, so that
    each has the weights of its own loss that rank best on held-out items of the training lists."""
    data = smaller(workbench, data) if workbench.quick else data
    shape = {"factor_count": 64, "iterations": 15}
    our_grid = [
        {**shape, "l2": l2, "unobserved_ratio": ratio}
        for l2, ratio in workbench.pick(list(itertools.product((0.03, 0.1, 0.3), (5.0, 20.0, 80.0))), [(0.1, 20.0)])
    ]
    their_grid = [
        ["--factors", "64", "--iterations", "15", "--regularization", str(regularization), "--alpha", str(alpha)]
        for regularization, alpha in workbench.pick(
            list(itertools.product((0.01, 1.0, 10.0), (1.0, 5.0, 20.0))), [(0.01, 1.0)]
        )
    ]
    held_out = validation(workbench, data)

    def quality(run):
        return next(iter(run["quality"].values()))

    settings = max(our_grid, key=lambda settings: quality(ours(workbench, "als", settings, **held_out)))
    options = max(
        their_grid, key=lambda options: quality(peer(workbench, "implicit_als.py", *options, **held_out))
    )
    mine, theirs = in_turns(
        workbench.pick(3, 1),
        lambda: ours(workbench, "als", settings, **data),
        lambda: peer(workbench, "implicit_als.py", *options, **data),
    )
    measured = compared(mine, theirs, "implicit 0.7.3")
    chosen = {name: value for name, value in settings.items() if name not in shape}
    measured.notes.append(f"chosen on held-out items of the training lists: ours {chosen}, implicit {' '.join(options[4:])}")
    return measured


NEIGHBOURS = {
    "cosine": ("cosine", []),
    "TF-IDF": ("tf_idf", []),
    "BM25": ({"bm25": {"k1": 1.2, "b": 0.75}}, ["--k1", "1.2", "--b", "0.75"]),
}


def neighbours(workbench, data):
    """100 neighbours an item, in each of the three weightings, by the same formulas."""
    data = smaller(workbench, data) if workbench.quick else data
    measured = Measured([], [])
    for name, (weighting, options) in NEIGHBOURS.items():
        settings = {"weighting": weighting, "neighbour_count": 100}
        options = ["--weighting", name.lower().replace("-", ""), "--neighbours", "100", *options]
        mine, theirs = in_turns(
            workbench.pick(3, 1),
            lambda: ours(workbench, "neighbours", settings, **data),
            lambda: peer(workbench, "implicit_neighbours.py", *options, **data),
        )
        of_one = compared(mine, theirs, "implicit 0.7.3", of=name)
        measured.figures += of_one.figures
        measured.notes += of_one.notes[:-1]
    measured.notes += of_one.notes[-1:]
    return measured

def compared(mine, theirs, name, of=""):
    """Processor time with its bar, and quality, so that nobody is fast by doing less. `of` tells apart what one row
    compares."""
    what = of and f", {of}"
    figures = [
        Figure(f"CPU to fit{what}", mine["median"], "s", at_most=theirs["median"], peer=theirs["median"], peer_name=name),
        Figure(f"wall to fit{what}", mine["wall_seconds"], "s", peer=theirs["wall_seconds"], peer_name=name),
    ]
    for measure, value in mine["quality"].items():
        other = theirs["quality"][measure]
        figures.append(Figure(f"{measure}{what}", value, at_least=0.99 * other, peer=other, peer_name=name))
    lines = [f"CPU seconds of each run{what}: ours {mine['all_cpu_seconds']}, {name} {theirs['all_cpu_seconds']}"]
    return Measured(figures, lines + ["both on one thread, in turns"])
