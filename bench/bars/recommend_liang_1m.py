"""Strong generalisation on MovieLens 1M."""

from . import _liang

NAME = "recommend-liang-1m"
WHAT = "ML-1M, Liang protocol, 5 splits: EASE and iALS beside numpy and implicit, the hybrid beside its parts"
# 603 users are tested in a split: what one split says of the hybrid is within chance.
SEEDS = [1, 2, 3, 4, 5]
BAR = "each >= 0.99 x its reference on the same splits; the hybrid above each part"


def measure(workbench):
    return _liang.measure(workbench, workbench.data("ml-1m"), SEEDS)
