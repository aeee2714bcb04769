"""The figures of `pair_figures` as a metric of the Hugging Face `evaluate` library."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
from numpy.typing import ArrayLike

from common.config import METRIC_NAMES
from common.evaluation.hf_evaluate import Metric, MetricInfo
from common.inference.pair_metrics import Figures, pair_metrics


class PairMetrics(Metric):  # type: ignore[misc]  # the package ships no types
    """`pair_metrics` as a metric of the `evaluate` library: `add_batch` as often as needed, then
    `compute(threshold=...)`, in memory and in one process.

    The features take float64 and the format is the library's plain one (its NumPy format rounds
    to float32), so that float32 and float64 scores both arrive as they are.
    """  # noqa: D205

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _build_data_dir(self) -> str:
        """No directory: the library would create one under the home even to stay in memory."""
        return ""

    def _info(self) -> object:
        features = datasets.Features(
            {"predictions": datasets.Value("float64"), "references": datasets.Value("int32")}
        )
        return MetricInfo(
            description="Figures of predicted protein pairs, ranked and called.",
            citation="",
            inputs_description="predictions: probabilities; references: labels, 0 or 1",
            features=features,
        )

    def _compute(
        self,
        predictions: ArrayLike,
        references: ArrayLike,
        threshold: float = 0.5,
        names: Sequence[str] = METRIC_NAMES,
    ) -> Figures:
        return pair_metrics(predictions, references, threshold, names)


def measure_pairs(
    predictions: ArrayLike, references: ArrayLike, threshold: float, names: Sequence[str]
) -> Figures:
    """`PairMetrics` computed over everything at once."""
    figures: Figures = PairMetrics().compute(
        predictions=predictions, references=references, threshold=threshold, names=names
    )
    return figures
