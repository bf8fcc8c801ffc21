"""Networks by name: torchvision, and timm where it is installed."""

import math
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xbench.classifier import Normalization
from xbench.contracts import Geometry
from xbench.errors import ModelError, ParameterError
from xbench.models.built import Built, nearest
from xbench.models.checkpoints import fit_weights, mismatches, read_checkpoint, rename
from xbench.models.hub import cached_file, reach, reach_hub
from xbench.optional import optional

_torchvision = optional("torchvision.models")
_timm = optional("timm", "install it with `pip install timm`")
_timm_data = optional("timm.data", "install it with `pip install timm`")
_HUB_FILE = "model.safetensors"
_REMAPPED = ("inception_v3", "googlenet")  # their weights expect inputs normalized otherwise

Make = Callable[[int | None], nn.Module]


def torchvision_names() -> list[str]:
    """Every image classifier that torchvision builds."""
    return list(_torchvision.list_models(module=_torchvision))


def build_torchvision(name: str, weights: Path | None, parameters: Mapping[str, Any]) -> Built:
    """A torchvision classifier with its own weights, or with those of a file.

    Preprocessing comes from the card of the weights: the one asked for, else the one whose file
    has this name, else (for a file of unknown origin) the network's first card, else the default.

    Args:
        name: as in `torchvision.models.list_models()`.
        weights: a file, None for torchvision's.
        parameters: may hold "weights", the name of a card such as IMAGENET1K_V1.

    Raises:
        ModelError: unknown name, unreachable weights, or a file that does not fit.
    """
    names = torchvision_names()
    if name not in names:
        raise ModelError(
            f"torchvision has no classifier '{name}'.{nearest(name, names, 'torchvision:')}"
        )
    cards = list(_torchvision.get_model_weights(name))
    card, notes = _card(name, cards, weights, parameters)
    if weights is None:
        module = _download(name, card)
    else:
        quirks = {"transform_input": True, "init_weights": False} if name in _REMAPPED else {}
        make = _maker(
            lambda **options: _torchvision.get_model(name, weights=None, **quirks, **options)
        )
        module, more = _from_file(make, weights, f"torchvision:{name}")
        notes += more
    built = _with_card(module, card)
    built.notes = notes
    if _outputs(module) != len(built.class_names):
        built.class_names = ()
    return built


def _card(
    name: str, cards: Sequence[Any], weights: Path | None, parameters: Mapping[str, Any]
) -> tuple[Any, list[str]]:
    by_name = {card.name: card for card in cards}
    unknown = set(parameters) - {"weights"}
    if unknown:
        raise ParameterError(
            f"torchvision:{name} takes the parameter weights, not '{min(unknown)}'."
        )
    if "weights" in parameters:
        asked = str(parameters["weights"])
        if asked != "DEFAULT" and asked not in by_name:
            raise ModelError(
                f"torchvision:{name} has the weights {', '.join(by_name)}, no {asked}."
            )
        return by_name.get(asked, _torchvision.get_model_weights(name).DEFAULT), []
    if weights is None:
        return _torchvision.get_model_weights(name).DEFAULT, []
    same = [card for card in cards if card.url.rpartition("/")[2] == weights.name]
    card = same[0] if same else cards[0]
    if same or len(cards) == 1:
        return card, []
    note = f"Preprocessing was taken from the card {card.name}, since the file names none."
    return card, [note]


def _download(name: str, card: Any) -> nn.Module:
    file = card.url.rpartition("/")[2]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    try:
        if not cached.is_file():
            reach(card.url)
        module = _torchvision.get_model(name, weights=card, progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        why = getattr(error, "reason", error)
        raise ModelError(
            f"The weights of torchvision:{name} could not be fetched ({why}); download {card.url} "
            f"where there is a network and give the file with --weights {file}."
        ) from error
    assert isinstance(module, nn.Module)
    return module


def _with_card(module: nn.Module, card: Any) -> Built:
    recipe = card.transforms()
    crop, resize = recipe.crop_size, recipe.resize_size
    side = crop if len(crop) == 2 else [crop[0], crop[0]]
    return Built(
        module,
        Normalization(tuple(recipe.mean), tuple(recipe.std)),
        Geometry(
            crop=(int(side[0]), int(side[1])),
            resize=int(resize[0]),
            interpolation=str(recipe.interpolation.value),
        ),
        list(card.meta["categories"]),
    )


def build_timm(name: str, weights: Path | None) -> Built:
    """A timm classifier with its own weights, or with those of a file.

    Raises:
        ModelError: unknown name, unreachable weights, or a file that does not fit.
        UnsupportedError: timm is not installed.
    """
    known = _timm.list_models()
    if name.partition(".")[0] not in known:
        raise ModelError(f"timm has no model '{name}'.{nearest(name, known, 'timm:')}")
    notes: list[str] = []
    if weights is None:
        module = _download_timm(name)
    else:
        make = _maker(lambda **options: _timm.create_model(name, pretrained=False, **options))
        module, notes = _from_file(make, weights, f"timm:{name}")
    config = _timm_data.resolve_data_config({}, model=module)
    height, width = config["input_size"][1:]
    geometry = Geometry(
        crop=(height, width),
        resize=math.floor(min(height, width) / config["crop_pct"]),
        interpolation=config["interpolation"]
        if config["interpolation"] in ("bilinear", "bicubic", "nearest")
        else "bicubic",
        channels=config["input_size"][0],
    )
    normalization = Normalization(tuple(config["mean"]), tuple(config["std"]))
    return Built(module, normalization, geometry, _timm_classes(module), notes=notes)


def _download_timm(name: str) -> nn.Module:
    repository = _timm.models.get_pretrained_cfg(name).hf_hub_id or ""
    cached = cached_file(repository, _HUB_FILE) if repository else None
    overlay = {"file": cached} if cached is not None else None
    try:
        if overlay is None:  # the library would go on trying for a minute
            reach_hub()
        module = _timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:
        first = (str(getattr(error, "reason", error)).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"The weights of timm:{name} could not be fetched ({first}); download {_HUB_FILE} of "
            f"{repository or name} where there is a network and give it with --weights FILE."
        ) from error
    assert isinstance(module, nn.Module)
    return module


def _timm_classes(module: nn.Module) -> list[str]:
    subset = _timm_data.infer_imagenet_subset(module)
    if subset is None:
        return []
    info = _timm_data.ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(info.num_classes())]


def _maker(create: Callable[..., nn.Module]) -> Make:
    def make(classes: int | None) -> nn.Module:
        return create() if classes is None else create(num_classes=classes)

    return make


def _from_file(make: Make, path: Path, name: str) -> tuple[nn.Module, list[str]]:
    """The network with the weights of a file; its head takes the file's number of classes."""
    tensors, notes = read_checkpoint(path)
    module = make(None)
    classes = _other_head(module, tensors)
    if classes is not None:
        module = make(classes)
        notes.append(f"The head was built for the {classes} classes of the weights file.")
    return module, notes + fit_weights(module, tensors, path, name)


def _other_head(module: nn.Module, tensors: Mapping[str, Tensor]) -> int | None:
    """The number of classes of a file whose shapes differ in the head alone, else None."""
    wanted = module.state_dict()
    renamed, _ = rename(tensors, wanted)
    other = mismatches(renamed, wanted)
    before = {int(wanted[key].shape[0]) for key in other if wanted[key].ndim}
    after = {int(renamed[key].shape[0]) for key in other if renamed[key].ndim}
    same_tail = all(renamed[key].shape[1:] == wanted[key].shape[1:] for key in other)
    if len(other) <= 4 and same_tail and before == {_outputs(module)} and len(after) == 1:
        return after.pop()
    return None


def _outputs(module: nn.Module) -> int:
    """Outputs of the last layer that has weights; the number of classes in every named network."""
    sizes = [
        child.out_features if isinstance(child, nn.Linear) else child.out_channels
        for child in module.modules()
        if isinstance(child, nn.Linear | nn.Conv2d)
    ]
    return sizes[-1] if sizes else 0
