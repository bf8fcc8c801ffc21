"""What the tests of probes share: small samples, small models, and a check of every exhibit."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.explaining import read_images
from xbench.models.exact import exact_case, exact_classifier
from xbench.models.reference import reference_classifier
from xbench.probes.contract import Exhibit, Probe, make_probe
from xbench.probes.page import write_exhibit


def reference() -> Classifier:
    return reference_classifier(batch_size=32)


def scenes(model: Classifier, count: int = 2, name: str = "planted") -> Samples:
    return read_images([name], model, limit=count)


def exact(structure: str, count: int = 4) -> tuple[Classifier, Samples]:
    case = exact_case(structure, list(range(count)))
    model = exact_classifier(structure, batch_size=64)
    ids = [f"exact-{number}" for number in range(count)]
    return model, Samples(images=case.images, labels=case.targets, ids=ids, truth=case.truth)


def probe(name: str, **values: object) -> Probe:
    return make_probe(name, **values).value


def sound(exhibit: Exhibit, folder: Path) -> str:
    """Write an exhibit and check what every one must have; the page's text."""
    path = write_exhibit(exhibit, folder, "xbench test")
    page = path.read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert exhibit.caption
    assert exhibit.limits
    for name, picture in exhibit.images.items():
        pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"))
        assert pixels.std() > 0, f"{name} is blank"
        assert (folder / f"{name}.png").read_bytes() == picture.png
    content = json.loads((folder / "numbers.json").read_text())
    assert set(content["numbers"]) == set(exhibit.numbers)
    for name, table in exhibit.numbers.items():
        assert len(content["numbers"][name]) == len(table.frame) > 0, name
        assert (folder / f"{name}.csv").is_file()
    return page


def same(one: Exhibit, other: Exhibit, *, but: tuple[str, ...] = ()) -> bool:
    """Whether two exhibits hold the same numbers and pictures; columns of `but` aside."""
    return one.caption == other.caption and all(
        table.frame.drop(columns=list(but), errors="ignore").equals(
            other.numbers[name].frame.drop(columns=list(but), errors="ignore")
        )
        for name, table in one.numbers.items()
    )
