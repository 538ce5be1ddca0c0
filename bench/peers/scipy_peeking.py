"""Welch's t-test by scipy, as one uses it who looks again and again: of each rollout, whether any look had p <= level.

Reads rollouts as JSON: of each its looks, of each look the users and lost answers of the control and of the candidate.
"""

import json
import sys

import numpy
import scipy
from scipy import stats

LEVEL = 0.05


def p_values(looks):
    """Of the candidate losing no more, at each look; nan where an arm has no variance yet."""
    count_a, lost_a, count_b, lost_b = numpy.array(looks, dtype=float).T
    with numpy.errstate(all="ignore"):
        mean_a, mean_b = lost_a / count_a, lost_b / count_b
        spread_a = numpy.sqrt(mean_a * (1 - mean_a) * count_a / (count_a - 1))
        spread_b = numpy.sqrt(mean_b * (1 - mean_b) * count_b / (count_b - 1))
        return stats.ttest_ind_from_stats(
            mean_b, spread_b, count_b, mean_a, spread_a, count_a, equal_var=False, alternative="greater"
        ).pvalue


with open(sys.argv[1], encoding="utf-8") as rollouts:
    told = [p_values(looks) for looks in json.load(rollouts)]
print(json.dumps({
    "version": scipy.__version__,
    "alarmed": sum(bool((p <= LEVEL).any()) for p in told) / len(told),
    "alarmed_at_the_end": sum(bool(p[-1] <= LEVEL) for p in told) / len(told),
}))
