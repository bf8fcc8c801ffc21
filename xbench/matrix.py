"""The table of methods by networks: ok, or refused and why; made by running every pair."""

import copy
import gc
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xbench import names
from xbench.classifier import Classifier, Normalization
from xbench.conformance import Verdict, examine
from xbench.contracts import Method
from xbench.errors import ParameterError, XbenchError
from xbench.models.loading import load_classifier
from xbench.optional import optional
from xbench.registry import METHODS, Chosen, Entry
from xbench.running.guard import Guard

_models = optional("torchvision.models")
_CLASSES = 10
_COSTLY = 10  # calls an image from which two pictures must do
_MOST = 100  # calls an image from which a method runs with as few draws and steps as it accepts
_NORMALIZATION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CONVOLUTIONAL = (
    "resnet18",
    "vgg11_bn",
    "densenet121",
    "mobilenet_v2",
    "efficientnet_b0",
    "convnext_tiny",
    "squeezenet1_1",
)
_TRANSFORMERS = ("vit_b_16", "swin_t")
_SIZES = {"vit_b_16": (32, 32), "swin_t": (64, 96)}
_SIZE = (65, 79)  # of all others: odd sides that differ
REFERENCE = "reference"
NETWORKS = (REFERENCE, *_CONVOLUTIONAL, *_TRANSFORMERS)


@dataclass(frozen=True)
class Cell:
    """One method on one network."""

    method: str
    network: str
    verdict: Verdict


def matrix(
    methods: Sequence[Entry[Method]],
    networks: Sequence[str] = NETWORKS,
    *,
    gray: bool = False,
) -> Iterator[Cell]:
    """Every method on every network, network by network.

    The networks have random weights (but for the reference classifier) and get small images whose
    sides differ and are odd where the network allows it.

    Args:
        methods: entries of the registry; they run with few steps and draws.
        networks: some of `NETWORKS`.
        gray: networks for images of one channel instead of three.

    Raises:
        ParameterError: an unknown network.
    """
    for network in networks:
        if network not in NETWORKS:
            raise ParameterError(f"The matrix has no network '{network}'; it has {NETWORKS}.")
        classifier = build_network(network, gray=gray)
        images = pictures_for(network, gray=gray)
        guard = Guard(classifier)
        for entry in methods:
            method = _quick(entry, classifier, images)
            verdict = examine(method, classifier, images, guard=guard, costly=_COSTLY)
            gc.collect()  # copies of the network hold each other
            yield Cell(entry.name, f"{network} gray" if gray else network, verdict)


def matrix_by_workers(
    methods: Sequence[Entry[Method]],
    tables: Sequence[tuple[str, bool]],
    workers: int,
) -> Iterator[Cell]:
    """Like `matrix`, networks side by side in processes of one thread each, in the same order.

    Args:
        methods: entries of the registry.
        tables: (network, gray) pairs.
        workers: processes at once.
    """
    chosen = [entry.name for entry in methods]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        tasks = [pool.submit(_cells_of, chosen, *table) for table in tables]
        for task in tasks:
            yield from task.result()


def _cells_of(chosen: Sequence[str], network: str, gray: bool) -> list[Cell]:
    torch.set_num_threads(1)
    entries = {entry.name: entry for entry in METHODS.entries()}
    return list(matrix([entries[name] for name in chosen], [network], gray=gray))


def build_network(name: str, *, gray: bool = False, batch_size: int = 7) -> Classifier:
    """A classifier of the matrix, ready to be explained.

    Parameters that torchvision starts at a constant (zero heads, unit scales) get draws around
    it, and batch norms the statistics of pictures, so that no part of the network is idle.

    Args:
        name: one of `NETWORKS`.
        gray: for images of one channel: the first layer takes the sum over channels.
        batch_size: rows a call.
    """
    if name == REFERENCE:
        reference = load_classifier(name, batch_size=batch_size)
        module, normalization = copy.deepcopy(reference.module), reference.normalization
    else:
        sized = {"image_size": 32} if name == "vit_b_16" else {}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            module = _models.get_model(name, weights=None, num_classes=_CLASSES, **sized)
            _enliven(module, name)
        normalization = _NORMALIZATION
    if gray:
        module, normalization = _for_gray(module), _for_one_channel(normalization)
    return Classifier(
        module.eval(), name=name, normalization=normalization, batch_size=batch_size, own=True
    )


def pictures_for(network: str, *, gray: bool = False) -> Tensor:
    """Seven pictures (7, C, H, W) of a size that one of `NETWORKS` takes."""
    return pictures(_SIZES.get(network, _SIZE), channels=1 if gray else 3)


def pictures(size: tuple[int, int], *, channels: int = 3, count: int = 7) -> Tensor:
    """Random pictures (count, channels, H, W) of blobs and noise."""
    draw = torch.Generator().manual_seed(1)
    blobs = torch.rand(count, channels, 5, 6, generator=draw)
    noise = torch.rand(count, channels, *size, generator=draw)
    return 0.8 * F.interpolate(blobs, size=size, mode="bilinear") + 0.2 * noise


def _quick(entry: Entry[Method], classifier: Classifier, images: Tensor) -> Chosen[Method]:
    """Few steps and draws; as few as possible where even these cost much on this network."""
    method = reduced(entry)
    cost = method.value.cost(classifier.facts(tuple(images.shape[1:])))
    return reduced(entry, most=1) if cost.calls > _MOST else method


def reduced(entry: Entry[Method], most: int = 4) -> Chosen[Method]:
    """The method of an entry with few draws and steps, so that it is quick.

    Every whole number above `most` among its parameters becomes the first one from `most` upwards
    that the method accepts. What has no default becomes the name of another method.
    """
    values: dict[str, Any] = {}
    for field in fields(entry.factory):
        default = entry.parameters[field.name]
        if field.default is MISSING and field.name not in entry.preset:
            values[field.name] = f"smoothgrad[n_samples={most}]"
        elif type(default) is int and default > most:
            tries = ({**values, field.name: value} for value in range(most, default + 1))
            values = next(filter(None, (_accepted(entry, one) for one in tries)))
    return METHODS.create(names.write(entry.name, values))


def _accepted(entry: Entry[Method], values: dict[str, Any]) -> dict[str, Any] | None:
    try:
        entry.factory(**{**entry.preset, **values})
    except XbenchError:
        return None
    return values


@torch.no_grad()
def _enliven(module: nn.Module, name: str) -> None:
    for parameter in module.parameters():
        if bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(0.1 * torch.randn(parameter.shape))
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the statistics of all that is seen, not a running mean
    if norms:
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in vars(_NORMALIZATION).values())
        module.train()
        module((pictures(_SIZES.get(name, _SIZE), count=16) - mean) / std)
    module.eval()


def _for_gray(module: nn.Module) -> nn.Module:
    for path, child in module.named_modules():
        if isinstance(child, nn.Conv2d):
            return _replaced(module, path, child)
    raise ParameterError("The network has no convolution to be made one for gray images.")


def _replaced(module: nn.Module, path: str, child: nn.Conv2d) -> nn.Module:
    new = nn.Conv2d(
        1,
        child.out_channels,
        child.kernel_size,  # type: ignore[arg-type]
        child.stride,  # type: ignore[arg-type]
        child.padding,  # type: ignore[arg-type]
        bias=child.bias is not None,
    )
    new.weight = nn.Parameter(child.weight.detach().sum(dim=1, keepdim=True))
    new.bias = child.bias
    parent, _, last = path.rpartition(".")
    setattr(module.get_submodule(parent), last, new)
    return module


def _for_one_channel(normalization: Normalization) -> Normalization:
    means, stds = (
        (sum(values) / len(values),) for values in (normalization.mean, normalization.std)
    )
    return Normalization(means, stds)


def matrix_markdown(cells: Sequence[Cell]) -> str:
    """The cells as a Markdown page: the table, then the reasons.

    Args:
        cells: of `matrix`, in any order.
    """
    networks = list(dict.fromkeys(cell.network for cell in cells))
    found = {(cell.method, cell.network): cell.verdict for cell in cells}
    methods = sorted({cell.method for cell in cells})
    states = [verdict.state for verdict in found.values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("ok", "refused", "broken"))
    lines = [
        "# Methods by networks",
        "",
        f"Generated by `xbench matrix`: {len(methods)} methods on {len(networks)} networks, "
        f"{counts}. The networks have random weights, the reference classifier its own; methods "
        "run with few steps and draws on small pictures whose sides differ and are odd where the "
        "network allows it, seven at once and one by one. `ok`: maps are finite and of the right "
        "shape, do not depend on the batch, on its neighbors or on global random state, follow "
        "seed and class as the card says, cost the calls that the card says, and leave the model "
        "as it was. Numbers refer to the reasons at the end.",
        "",
    ]
    reasons: dict[str, int] = {}
    for title, gray in (("RGB images", False), ("Gray images", True)):
        chosen = [name for name in networks if name.endswith(" gray") == gray]
        if chosen:
            lines += [f"## {title}", "", *_table(methods, chosen, found, reasons), ""]
    if reasons:
        lines += ["## Reasons", ""]
        lines += [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(
    methods: Sequence[str],
    networks: Sequence[str],
    found: Mapping[tuple[str, str], Verdict],
    reasons: dict[str, int],
) -> list[str]:
    """The lines of one table; reasons that are new get the next number."""
    head = ["method", *(name.removesuffix(" gray") for name in networks)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method in methods:
        row = [f"`{method}`"]
        for network in networks:
            verdict = found.get((method, network))
            row.append("" if verdict is None else _shown(verdict, reasons))
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _shown(verdict: Verdict, reasons: dict[str, int]) -> str:
    if not verdict.reason:
        return verdict.state
    number = reasons.setdefault(verdict.reason, len(reasons) + 1)
    return f"{verdict.state} ({number})"
