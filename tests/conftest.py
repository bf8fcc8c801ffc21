"""Fixtures that all tests share."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

import nets

from xbench.classifier import Classifier, Normalization
from xbench.streams import Streams

settings.register_profile(  # a loaded machine is no failure
    "xbench", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("xbench")


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def imagenet_sample() -> Path:
    """The folder with a real MobileNetV2 and 64 photographs; tests skip where it is absent."""
    root = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("XBENCH_SAMPLE", root.parent / "shared" / "imagenet-sample"))
    if not (folder / "mobilenet_v2.pt").is_file():
        pytest.skip("the ImageNet sample is not on this machine")
    return folder


@pytest.fixture(scope="session")
def cnn() -> Classifier:
    """A small random ReLU CNN, 5 classes, any size of RGB images; batch size 4."""
    norm = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    return Classifier(nets.build(nets.SmallCNN), normalization=norm, batch_size=4)


@pytest.fixture
def streams() -> Streams:
    """Streams of three images."""
    return Streams(seed=0, image_ids=["a", "b", "c"], scope="test")
