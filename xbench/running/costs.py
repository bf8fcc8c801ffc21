"""What a metric of a method costs in model calls; limits and plans read the same formulas."""

from collections.abc import Mapping

from xbench.contracts import Method, Metric
from xbench.cost import Cost
from xbench.models.retrainer import RETRAINING
from xbench.running.grid import Grid


def cell_cost(grid: Grid, method: Method, metric: Metric, facts: Mapping[str, object]) -> Cost:
    """Model calls an image: the metric's own, explaining anew, and training anew.

    Models are trained once for all images, so their calls are divided by the images of the run.
    Nothing is added for trainings where the grid has no training images, as the cell is refused.
    """
    cost = metric.cost(facts) + method.cost(facts) * metric.explains(facts)
    models = metric.trainings(facts)
    if not models or grid.training is None:
        return cost
    count = len(grid.training)
    training = Cost(forwards=1, backwards=1) * (RETRAINING.epochs * models) + method.cost(facts)
    return cost + training * (count / len(grid.source))
