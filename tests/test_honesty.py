"""Methods that cheat are caught, each with a sentence that names what it did; no honest one is."""

import sys
from pathlib import Path

import nets
import pytest
import torch

from xbench.classifier import Classifier
from xbench.conformance import check
from xbench.contracts import check_maps
from xbench.errors import InvalidMapError, XbenchError
from xbench.honesty import cheats
from xbench.plugins.loading import anew, enter, load_method
from xbench.registry import METHODS

GRADIENT = """
    images.requires_grad_(True)
    model(images).gather(1, targets[:, None]).sum().backward()
    return images.grad.sum(dim=1)
"""

CHEATS = {
    "noise": ("return torch.rand(images.shape[0], *images.shape[2:])", "returns random noise"),
    "unseeded": (
        "return torch.from_numpy(np.random.default_rng().random((len(images), *images.shape[2:])))",
        "returns random noise",
    ),
    "fixed": (
        "draw = torch.Generator().manual_seed(0)\n"
        "    one = torch.rand(*images.shape[2:], generator=draw)\n"
        "    return one.expand(len(images), -1, -1)",
        "ignores the image: it gives every image the same map",
    ),
    "modelless": (
        "return images.mean(dim=1)",
        "ignores the model: its maps stay the same when every weight is random",
    ),
    "classless": (
        "images.requires_grad_(True)\n    model(images).sum().backward()\n"
        "    return images.grad.sum(dim=1)",
        "gives every class the same map",
    ),
    "vandal": (
        "with torch.no_grad():\n        for p in model.parameters():\n            p.mul_(1.01)\n"
        + GRADIENT,
        "changed the model's weights",
    ),
    "spy": (
        "names = streams.image_ids\n"
        + GRADIENT.replace("images.grad.", "len(names) * images.grad."),
        "reads the images' names, which hold the folder of the label",
    ),
    "lister": (
        "found = sorted(os.listdir(FOLDER))\n" + GRADIENT,
        "lists folders while explaining",
    ),
    "opener": (
        "text = open(os.path.join(FOLDER, 'labels.csv')).read()\n" + GRADIENT,
        "opens files while explaining",
    ),
    "peeper": (
        "caller = inspect.currentframe().f_back.f_locals\n" + GRADIENT,
        "looks into the frames of its callers",
    ),
    "collector": ("found = len(gc.get_objects())\n" + GRADIENT, "searches the objects"),
    "counter": (
        "STATE.append(1)\n" + GRADIENT.replace("images.grad.", "len(STATE) * images.grad."),
        "gives another map when it is asked again",
    ),
    "global": (
        GRADIENT.replace("images.grad.", "(1 + torch.initial_seed() % 7) * images.grad."),
        "reads global random state",
    ),
    "first": (
        "STATE.setdefault('map', images[0].mean(dim=0))\n"
        + GRADIENT.replace("return", "return STATE['map'] +"),
        "remembers",
    ),
}


def write(folder: Path, name: str, body: str) -> str:
    """A file with one function of that name; the text that means it."""
    arguments = "model, images, targets" + (", streams" if "streams" in body else "")
    state = "{}" if "setdefault" in body else "[]"
    path = folder / f"{name}.py"
    path.write_text(
        "import gc, inspect, os\nimport numpy as np\nimport torch\n"
        f"FOLDER = {str(folder)!r}\nSTATE = {state}\n\n\n"
        f"def {name}({arguments}):\n    {body.strip()}\n",
        encoding="utf-8",
    )
    return f"{path}:{name}"


@pytest.fixture(autouse=True)
def _registry_as_it_was():
    METHODS.discover()
    before = dict(METHODS._entries)
    yield
    METHODS._entries.clear()
    METHODS._entries.update(before)


@pytest.fixture(scope="module")
def model() -> Classifier:
    return Classifier(nets.build(nets.SmallCNN), batch_size=8)


def findings(text: str, model: Classifier) -> list[str]:
    images = nets.pictures(3)
    method = enter(load_method(text), model, images)
    return check(method, model, images) + cheats(
        method, model, images, fresh=lambda: anew(text, method.value)
    )


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_caught_by_name(name: str, model: Classifier, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("cat")
    weights = model.fingerprint()
    body, expected = CHEATS[name]
    found = findings(write(tmp_path, f"cheat_{name}", body), model)
    assert any(expected in sentence for sentence in found), found
    assert all(f"cheat_{name}" in sentence for sentence in found)
    assert model.fingerprint() == weights


HONEST = {
    "gradient": GRADIENT,
    "drawn": "images = (images + 0.1 * torch.randn_like(images)).detach()\n" + GRADIENT,
    "streamed": "images = (images + 0.1 * streams.normal(images.shape[1:])).detach()\n" + GRADIENT,
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_function_has_no_findings(name: str, model: Classifier, tmp_path: Path) -> None:
    assert findings(write(tmp_path, f"honest_{name}", HONEST[name]), model) == []


@pytest.mark.parametrize("name", ["gradcam", "smoothgrad[n_samples=4]", "occlusion", "lime"])
def test_the_catalogue_does_not_cheat(name: str, model: Classifier) -> None:
    assert cheats(METHODS.create(name), model, nets.pictures(2)) == []


WRONG = {
    "shape": ("return images", "return one value a pixel"),
    "thin": ("return images.mean(dim=1, keepdim=True)", ".squeeze(1)"),
    "nan": (
        "return images.mean(dim=1) * float('nan')",
        "NaN or infinite values on 2 images; guard",
    ),
    "array": ("return images.mean(dim=1).numpy()", "torch.from_numpy"),
    "none": ("images.mean()", "return"),
    "few": ("return images", "takes 2 arguments"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_function_is_told_what_to_change(
    name: str, model: Classifier, tmp_path: Path
) -> None:
    body, expected = WRONG[name]
    text = write(tmp_path, f"wrong_{name}", body)
    if name == "few":
        path = Path(text.rpartition(":")[0])
        path.write_text(path.read_text().replace("model, images, targets", "images, targets"))
    with pytest.raises(XbenchError) as caught:
        enter(load_method(text), model, nets.pictures(2))
    assert expected in str(caught.value)
    assert f"wrong_{name}" in str(caught.value)


def test_maps_on_another_device_are_told_where_to_go() -> None:
    images = torch.zeros(2, 3, 8, 8, device="meta")
    with pytest.raises(
        InvalidMapError, match=r"maps on cpu, not on meta; .*\.to\(images\.device\)"
    ):
        check_maps(torch.zeros(2, 8, 8), images, "The method 'mine'")


def test_a_class_without_a_card_is_told_to_have_one(model: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "cardless.py"
    path.write_text(
        "from xbench.contracts import Method\n\n\nclass Cardless(Method):\n"
        "    def explain(self, model, images, targets, *, streams):\n        return images[:, 0]\n"
    )
    with pytest.raises(XbenchError, match=r"Cardless has no card; write `card: ClassVar"):
        enter(load_method(f"{path}:Cardless"), model, nets.pictures(2))


def test_a_taken_name_is_told_to_change(model: Classifier, tmp_path: Path) -> None:
    text = write(tmp_path, "gradcam", GRADIENT)
    with pytest.raises(XbenchError, match=r"'gradcam' already .* give yours another name"):
        enter(load_method(text), model, nets.pictures(2))


def test_a_missing_name_and_a_broken_file(tmp_path: Path) -> None:
    text = write(tmp_path, "my_method", GRADIENT)
    with pytest.raises(XbenchError, match="Did you mean my_method"):
        load_method(text.replace(":my_method", ":mymethod"))
    (tmp_path / "broken.py").write_text("x = 1\ny = x +\n")
    with pytest.raises(XbenchError, match=r"cannot be imported \(SyntaxError.*line 2"):
        load_method(f"{tmp_path / 'broken.py'}:x")
    with pytest.raises(XbenchError, match="There is no file"):
        load_method(f"{tmp_path / 'absent.py'}:x")


def test_watching_ends(tmp_path: Path, model: Classifier) -> None:
    watched = sys.modules["xbench.watching"]
    assert watched._watch is None
