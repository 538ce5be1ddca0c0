"""Strong generalisation on MovieLens 100K."""

from . import _liang

NAME = "recommend-liang-100k"
WHAT = "ML-100K, Liang protocol, 20 splits: EASE and iALS beside numpy and implicit, the hybrid beside its parts"
# 94 users are tested in a split, so that one split says little.
SEEDS = list(range(1, 21))
BAR = "each >= 0.99 x its reference on the same splits; the hybrid above each part"


def measure(workbench):
    return _liang.measure(workbench, workbench.data("ml-100k"), SEEDS)
