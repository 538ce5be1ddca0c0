"""Day-ahead power prices of five markets on the published test hours."""

from harness.figures import Figure, Measured

from . import _forecast

NAME = "models-power"
WHAT = "day-ahead prices of five markets, 17,472 hours each, from the inputs of the published forecasts"
BAR = "mean absolute error at most that of the published LEAR in at least 4 of 5 markets; beside it DNN and naive"

MARKETS = 4


def measure(workbench):
    told = _forecast.ask(workbench, "power")
    figures, notes, reached = [], [], {"lear": 0, "dnn": 0}
    for name, of in told["markets"].items():
        for peer in reached:
            reached[peer] += of["mae"] <= of[f"published_{peer}"]
        figures.append(Figure(f"MAE, {name}", of["mae"], peer=of["published_lear"], peer_name="LEAR as published"))
        parts = f"our LEAR {of['lear']:.3f}, kernel {of['kernel']:.3f}, naive {of['naive']:.3f}"
        notes.append(
            f"{name}: {of['mae']:.3f}; published LEAR {of['published_lear']:.3f} ({_forecast.test_of(of['against_lear'])}), "
            f"published DNN {of['published_dnn']:.3f} ({_forecast.test_of(of['against_dnn'])}); {parts}"
        )
    head = [
        Figure("markets at or below the published LEAR", reached["lear"], at_least=MARKETS),
        Figure("markets at or below the published DNN", reached["dnn"]),
    ]
    return Measured(head + figures, notes)
