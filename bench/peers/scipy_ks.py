"""The two-sample test of Kolmogorov and Smirnov by scipy. Reads pairs of samples as JSON, prints statistics and p-values."""

import json
import sys

import scipy
from scipy import stats

with open(sys.argv[1], encoding="utf-8") as pairs:
    told = [stats.ks_2samp(one, two, method="exact") for one, two in json.load(pairs)]
print(json.dumps({"version": scipy.__version__, "tests": [[float(one.statistic), float(one.pvalue)] for one in told]}))
