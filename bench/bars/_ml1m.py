"""Shared by the rows that serve ML-1M: imported, trained with the sequence model, and its users in a seeded order."""

import itertools
import random


def data_folder(workbench):
    source = workbench.data("ml-1m")

    def make(folder):
        imported = source
        if workbench.quick:
            imported = workbench.folder("ml-1m")
            for name in ("movies.dat", "users.dat"):
                (imported / name).write_bytes((source / name).read_bytes())
            lines = (source / "ratings.csv").read_text().splitlines(keepends=True)[:20_000]
            (imported / "ratings.csv").write_text("".join(lines))
        workbench.watershed("--data-dir", folder, "import", imported)
        fast = ["--fast"] if workbench.quick else []
        workbench.watershed("--data-dir", folder, "train", *fast, minutes=240)

    return workbench.prepared("ml-1m", [str(source)], make)


def users(workbench, seed=7):
    """Those who rated, in random order."""
    with open(workbench.data("ml-1m/ratings.csv"), encoding="utf-8") as file:
        next(file)
        lines = itertools.islice(file, 19_000) if workbench.quick else file
        found = list(dict.fromkeys(line.split(",", 1)[0] for line in lines))
    random.Random(seed).shuffle(found)
    return found


def subjects(path, names):
    path.write_text("".join(f"{name}\n" for name in names))
    return path
