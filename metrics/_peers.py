"""What is known to be wrong with other packages' metrics, for the cards and the refusals."""

DEFECTS = {
    "AttributionLocalisation": "with weighted=true the size of the batch enters the weight",
    "Completeness": "tests exact equality of floats, so it is always false",
    "EfficientMPRT": "bin rules read the wrong dimension, divides by an entropy that can be 0",
    "EffectiveComplexity": "counts values above a fixed 1e-5 after scaling",
    "FaithfulnessCorrelation": "subsets of 224 values, 0.15 % of an image of 224 pixels a side",
    "Infidelity": "perturbations add up and are not sampled; loud maps lose, for want of scaling",
    "IROF": "fails on RGB, is not divided by the number of segments",
    "LocalLipschitzEstimate": "the denominator grows with resolution",
    "MPRT": "one seed for all layers, attention and tokens stay trained, the average holds the "
    "trivial 1",
    "InputInvariance": "fails on networks that do not begin with a convolution",
    "Monotonicity": "a constant image is replaced by itself, so every map passes",
    "MonotonicityCorrelation": "one forward a value and sample, fails on small probabilities",
    "NonSensitivity": "fails unless features_in_step is 1",
    "PixelFlipping": "flips single channels, its area is not divided by the number of steps",
    "PointingGame": "several maxima count as a hit if any lies inside, and so does an empty mask",
    "RandomLogit": "similarity over flattened maps, fails unless the model has 1000 classes",
    "RegionPerturbation": "declared lower-is-better, which is wrong for its default order",
    "RelativeInputStability": "noise is a brightness shift; one changed prediction voids an image",
    "RelativeOutputStability": "noise is a brightness shift; one changed prediction voids an image",
    "RelativeRepresentationStability": "as RelativeInputStability; fails on tuple outputs",
    "RelevanceMassAccuracy": "sums negative values too, so it leaves the range of 0 to 1",
    "ROAD": "fails on RGB, gives one accuracy and not a score an image",
    "Selectivity": "areas are not divided by the number of steps",
    "SmoothMPRT": "ignores the method under test and explains by its own gradient",
    "TopKIntersection": "k is a number of pixels, whatever the size of the image",
}

REFUSED = {
    "BatchSufficiency": "compares the images of a batch with each other",
    "Consistency": "compares the images of a batch with each other",
    "Focus": "needs mosaics of its own; use focus",
    "ModelParameterRandomisation": "is the old name of MPRT",
    "SensitivityN": "correlates over the images of a batch",
    "SmoothMPRT": "ignores the method under test and explains by its own gradient",
    "Sufficiency": "compares the images of a batch with each other",
}


def listed(defects: dict[str, str]) -> str:
    """The defects as one text."""
    return "; ".join(f"{name}: {text}" for name, text in sorted(defects.items())) + "."
