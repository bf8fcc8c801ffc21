"""Mass on further masks of a data set: distractors, objects of other classes, watermarks."""

from dataclasses import dataclass
from typing import ClassVar

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.registry import METRICS
from xbench.streams import Streams

from ._truth import area_share, positive_share

REGIONS = ("distractors", "others", "watermark")


@METRICS.register
@dataclass(frozen=True)
class RegionMass(Metric):
    """Share of the positive relevance on a region R that is not the object: sum_R a+ / sum a+.

    On a network that can only know the object, mass there is a mistake of the map. On one that
    was trained with a shortcut, mass on the watermark is what exposes it.

    Attributes:
        region: the mask of the data set: "distractors", "others" (objects of other classes) or
            "watermark".
    """

    region: str = "distractors"

    card: ClassVar[MetricCard] = MetricCard(
        name="distractor_mass",
        summary="Share of the positive mass that lies on distractors.",
        paper="shares as in Arras et al. 2022, of regions that cannot matter as in Yang and Kim "
        "2019, Benchmarking attribution methods with relative feature importance",
        limitations="A coarse map spills onto neighbors that it does not mean.",
        property="localization",
        direction="lower",
        range=(0.0, 1.0),
        invariances=("scale",),
        chance="the share of the image that the region covers",
    )

    def __post_init__(self) -> None:
        if self.region not in REGIONS:
            raise ParameterError(f"The region is one of {', '.join(REGIONS)}, not '{self.region}'.")

    def supports(self, case: Case) -> str | None:
        """Refused where the data set has no such mask."""
        if self.region not in case.extras:
            return f"The data set brings no mask of {self.region}."
        return None

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Share of positive mass on the region; detail `chance`, its share of the pixels.

        Undefined where the image has no such region, or the map no positive value.
        """
        region = case.extras[self.region].to(case.maps.device)
        empty = ~region.flatten(1).any(dim=1)
        return Scores.of(
            positive_share(case.maps, region).masked_fill(empty, float("nan")),
            details={"chance": area_share(region)},
            reason=f"no {self.region} in the image, or no positive value in the map",
        )


METRICS.preset(
    "others_mass",
    RegionMass,
    region="others",
    card={"summary": "Share of the positive mass that lies on objects of other classes."},
)
METRICS.preset(
    "watermark_mass",
    RegionMass,
    region="watermark",
    card={
        "summary": "Share of the positive mass that lies on the watermark.",
        "limitations": "Says what the map points at; whether that is right depends on the network: "
        "more than half exposes a network that reads the watermark.",
        "direction": "none",
    },
)
