"""The demo's model: will a flight arrive more than 15 minutes late? Trained to the end of September, tested after."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score, roc_curve
from threadpoolctl import threadpool_limits

threadpool_limits(1, "openmp")  # on a busy machine threads that wait for each other take minutes

LABEL = "arr_late"
TIME = "scheduled_departure"
TEST_FROM = pd.Timestamp("2013-10-01", tz="America/New_York")

SCHEDULE = ["carrier", "origin", "hour", "weekday", "distance"]
CATEGORIES = {
    "carrier": ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"],
    "origin": ["EWR", "JFK", "LGA"],
}


@dataclass(frozen=True)
class Scored:
    """A model's answers for the flights of the test months."""

    name: str
    late: np.ndarray
    probability: np.ndarray

    @property
    def auc(self) -> float:
        """The chance that a late flight is ranked above one that is not: 0.5 is a coin."""
        return float(roc_auc_score(self.late, self.probability))

    @property
    def late_among_flagged(self) -> float:
        """The share that was late among the tenth that the model held most likely to be."""
        flagged = np.argsort(-self.probability)[: len(self.probability) // 10]
        return float(self.late[flagged].mean())


def matrix(frame: pd.DataFrame, features: list[str]) -> pd.DataFrame:
    """The model's input: categories as categories, all else as floats with NaN where nothing is known."""
    columns = {
        name: pd.Categorical(frame[name], categories=CATEGORIES[name])
        if name in CATEGORIES
        else frame[name].to_numpy(dtype="float64", na_value=np.nan)
        for name in features
    }
    return pd.DataFrame(columns, index=frame.index)


def train(frame: pd.DataFrame, features: list[str]) -> HistGradientBoostingClassifier:
    """Fit on the flights that arrived, to the end of September."""
    rows = frame[frame[LABEL].notna() & (frame[TIME] < TEST_FROM)]
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", early_stopping=False, random_state=0)
    return model.fit(matrix(rows, features), rows[LABEL].astype(bool))


def score(name: str, model: HistGradientBoostingClassifier, frame: pd.DataFrame, features: list[str]) -> Scored:
    """Ask the model about the flights that arrived, from October on."""
    rows = frame[frame[LABEL].notna() & (frame[TIME] >= TEST_FROM)]
    return Scored(name, rows[LABEL].to_numpy(dtype=bool), model.predict_proba(matrix(rows, features))[:, 1])


def plot_leak(results: Sequence[Scored], path: Path) -> None:
    """Save the ROC curves, and the areas under them as bars."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    curves, bars = figure.subplots(1, 2, width_ratios=(1, 1.2))
    for scored, color in zip(results, ("#999999", "#7fbf7b", "#1b7837", "#c51b7d", "#f1b6da"), strict=True):
        false, true, _ = roc_curve(scored.late, scored.probability)
        curves.plot(false, true, color=color, label=scored.name)
        bars.barh(scored.name, scored.auc, color=color)
        bars.text(scored.auc + 0.005, scored.name, f"{scored.auc:.3f}", va="center")
    curves.plot([0, 1], [0, 1], color="#cccccc", linestyle=":")
    curves.set(xlabel="share of punctual flights flagged", ylabel="share of late flights flagged")
    bars.set(xlim=(0.5, 1), xlabel="area under the curve, October to December")
    bars.invert_yaxis()
    figure.suptitle("A leak looks like skill until the model is served")
    figure.savefig(path, dpi=110)
