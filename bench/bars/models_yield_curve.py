"""The Treasury curve one to five days ahead, against tomorrow equals today."""

from harness.figures import Figure, Measured

from . import _forecast

NAME = "models-yield-curve"
WHAT = "par yields 1-5 days ahead, 2018-01 to 2022-03; the model is chosen on 1994-2017 and fitted anew each month on the past"
BAR = "root mean squared error below persistence (0.0677 percentage points), Diebold-Mariano printed"

# Persistence as the issue states it, and the program's own must agree with it.
PERSISTENCE = 0.0677
ROUNDING = 0.00005


def measure(workbench):
    told = _forecast.ask(workbench, "yield")
    chosen = told["chosen"]
    own, persistence = chosen["model"]["rmse"], chosen["persistence"]["rmse"]
    test = chosen["diebold_mariano"] or {"statistic": float("nan"), "p_value": float("nan")}
    figures = [
        Figure("RMSE over persistence's RMSE", own / persistence, at_most=0.999999),
        Figure("RMSE", own, "pp", at_most=PERSISTENCE, peer=persistence, peer_name="persistence"),
        Figure("persistence less 0.0677", abs(persistence - PERSISTENCE), "pp", at_most=ROUNDING),
        Figure("Diebold-Mariano statistic, all steps", test["statistic"]),
        Figure("its p", test["p_value"]),
        Figure("RMSE of the seasonal naive forecast", chosen["seasonal_naive"]["rmse"], "pp"),
        Figure("directional accuracy", chosen["model"]["directional_accuracy"]),
    ]
    for step in chosen["steps"]:
        name = f"RMSE, {step['step']} ahead ({_forecast.test_of(step['diebold_mariano'])})"
        figures.append(Figure(name, step["model"]["rmse"], "pp", peer=step["persistence"]["rmse"], peer_name="persistence"))
    for of in chosen["intervals"]:
        figures.append(Figure(f"coverage of the {of['nominal']:.0%} intervals", of["covered"]))
    notes = [
        f"chosen on 1994-2017 by the lowest Diebold-Mariano statistic: {chosen['name']}; "
        f"origins {' to '.join(chosen['origins'])}"
    ]
    loss, covered = _forecast.quantiles_of(chosen["quantiles"], "", "quantiles of persistence")
    figures += loss
    notes += covered
    for tried in told["candidates"]:
        ratio = tried["validation"] / tried["validation_persistence"]
        notes.append(
            f"{tried['name']}: validation {tried['validation']:.5f} ({ratio:.4f} of persistence, "
            f"{_forecast.test_of(tried['validation_diebold_mariano'])}), "
            f"test {tried['test']:.5f} ({_forecast.test_of(tried['test_diebold_mariano'])})"
        )
    return Measured(figures, notes)
