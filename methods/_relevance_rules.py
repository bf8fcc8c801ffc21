"""How one affine layer shares the relevance of its outputs among its inputs.

Every rule has one form. A layer z = sum_j x_j w_j + b is read as a sum of terms (x', w'), parts or
substitutes of inputs and weights, and a bias b':

    z' = sum over terms of layer(x', w') + b',      R_j = sum over terms of x'_j dz'/dx'_j (R / z')

with z' moved away from zero a little. The rules differ in their terms only. Inputs may have
any sign: a rule for "positive" looks at contributions x_j w_j, which for x >= 0 is the weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xbench.errors import UnsupportedError

STABILIZER = 1e-6  # epsilon of every rule but the one that is called so

_TINY = 1e-20

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d
Term = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Affine:
    """A convolution or linear layer with the batch normalizations right before and behind it.

    Running it runs the modules themselves; rules see one layer with merged weights and bias, which
    are computed when asked for, so that they follow changes of the weights.
    """

    layer: nn.Conv2d | nn.Linear
    before: BatchNorm | None = None
    after: BatchNorm | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """What the modules give."""
        x = x if self.before is None else self.before(x)
        z: Tensor = self.layer(x)
        return z if self.after is None else self.after(z)

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer without bias, for another input and another weight."""
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight)
        found: Tensor = self.layer._conv_forward(x, weight, None)
        return found

    def merged(self, x: Tensor) -> Term:
        """Weight and bias of the whole; the bias has the shape of an output or broadcasts to it.

        The bias of a normalization before a padded convolution is smaller at the border, so there
        it is a map.
        """
        dense = isinstance(self.layer, nn.Linear)
        if dense and x.ndim != 2 and (self.before or self.after):
            raise UnsupportedError("BatchNorm beside a linear layer over tokens has no rule.")
        vector = (1, -1) if dense else (1, -1, 1, 1)
        weight = self.layer.weight
        bias = weight.new_zeros(1) if self.layer.bias is None else self.layer.bias
        bias = bias.view(-1) if dense else bias.view(vector)
        if self.before is not None:
            scale, shift = scale_shift(self.before)
            bias = bias + self.linear(shift.view(vector).expand_as(x[:1]), weight)
            weight = weight * self._per_input(scale)
        if self.after is not None:
            scale, shift = scale_shift(self.after)
            bias = bias * scale.view(vector) + shift.view(vector)
            weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
        return weight, bias

    def _per_input(self, scale: Tensor) -> Tensor:
        """One factor an input channel, (C,), in the layout of the weight."""
        if isinstance(self.layer, nn.Linear):
            return scale.view(1, -1)
        groups, outputs = self.layer.groups, self.layer.out_channels
        rows = scale.view(groups, 1, -1).expand(-1, outputs // groups, -1)
        return rows.reshape(outputs, -1, 1, 1)


Share = Callable[[Affine, Tensor, Tensor], Tensor]  # (layer, inputs, R of outputs) to R of inputs


def scale_shift(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """A batch normalization as x * scale + shift, one value a channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else norm.weight * scale
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else norm.bias + shift


def away_from_zero(z: Tensor, epsilon: float) -> Tensor:
    """Outputs (N, ...) moved by epsilon times their root mean square, each image by its own.

    Being relative, it swallows no relevance where signals are faint, as they are in networks with
    random weights.

    >>> away_from_zero(torch.tensor([[1.0, -7.0], [0.0, 0.0]]), 0.1)
    tensor([[ 1.5000e+00, -7.5000e+00],
            [ 1.0000e-20,  1.0000e-20]])
    """
    rest = tuple(range(1, z.ndim))
    largest = z.abs().amax(dim=rest, keepdim=True).clamp(min=_TINY)
    scale = largest * (z / largest).square().mean(dim=rest, keepdim=True).sqrt()
    step = epsilon * scale + _TINY
    return torch.where(z >= 0, z + step, z - step)


def share(
    layer: Affine,
    terms: Sequence[Term],
    bias: Tensor | float,
    relevance: Tensor,
    epsilon: float = STABILIZER,
) -> Tensor:
    """The general rule of the module's docstring; terms whose input is all zero are left out."""
    shape = terms[0][0]
    terms = [term for term in terms if bool((term[0] != 0).any())]
    if not terms:
        return torch.zeros_like(shape)
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_(True) for x, _ in terms]
        outputs = [layer.linear(x, w) for x, (_, w) in zip(inputs, terms, strict=True)]
    z = torch.stack([output.detach() for output in outputs]).sum(dim=0) + bias
    passed = relevance / away_from_zero(z, epsilon)
    gradients = torch.autograd.grad(outputs, inputs, [passed] * len(outputs))
    return torch.stack([x.detach() * g for x, g in zip(inputs, gradients, strict=True)]).sum(dim=0)


def epsilon_rule(epsilon: float) -> Share:
    """R_j = sum_k x_j w_jk / (z_k + epsilon rms(z) sign z_k) R_k (Bach 2015, Montavon 2019)."""

    def rule(layer: Affine, x: Tensor, relevance: Tensor) -> Tensor:
        weight, bias = layer.merged(x)
        return share(layer, [(x, weight)], bias, relevance, epsilon)

    return rule


def alpha_beta_rule(alpha: float) -> Share:
    """Positive contributions weigh alpha, negative ones -beta = 1 - alpha (Bach 2015).

    alpha = 1 is the z+ rule (Montavon 2017). A bias counts to the contributions of its sign.
    """

    def rule(layer: Affine, x: Tensor, relevance: Tensor) -> Tensor:
        weight, bias = layer.merged(x)
        plus, minus = weight.clamp(min=0), weight.clamp(max=0)
        up, down = x.clamp(min=0), x.clamp(max=0)
        positive = share(layer, [(up, plus), (down, minus)], bias.clamp(min=0), relevance)
        if alpha == 1:
            return positive
        negative = share(layer, [(up, minus), (down, plus)], bias.clamp(max=0), relevance)
        return alpha * positive + (1 - alpha) * negative

    return rule


def gamma_rule(gamma: float) -> Share:
    """Contributions of the sign of the output weigh 1 + gamma (Montavon 2019, Andeol 2021).

    Under a ReLU only positive outputs have relevance: w + gamma w+. Outputs that no ReLU follows
    may be negative; there it is the negative contributions that are strengthened.
    """

    def rule(layer: Affine, x: Tensor, relevance: Tensor) -> Tensor:
        weight, bias = layer.merged(x)
        up, down = x.clamp(min=0), x.clamp(max=0)
        more = weight + gamma * weight.clamp(min=0)
        less = weight + gamma * weight.clamp(max=0)
        z = layer.linear(x, weight) + bias
        above = share(
            layer,
            [(up, more), (down, less)],
            bias + gamma * bias.clamp(min=0),
            relevance * (z > 0),
        )
        below = share(
            layer,
            [(up, less), (down, more)],
            bias + gamma * bias.clamp(max=0),
            relevance * (z < 0),
        )
        return above + below

    return rule


def square_rule(layer: Affine, x: Tensor, relevance: Tensor) -> Tensor:
    """w^2: shares by squared weights, whatever the inputs (Montavon 2017)."""
    weight, _ = layer.merged(x)
    return share(layer, [(torch.ones_like(x), weight.square())], 0.0, relevance)


def flat_rule(layer: Affine, x: Tensor, relevance: Tensor) -> Tensor:
    """Equal shares for all inputs of an output (Lapuschkin 2017)."""
    weight, _ = layer.merged(x)
    return share(layer, [(torch.ones_like(x), torch.ones_like(weight))], 0.0, relevance)


def box_rule(low: Tensor, high: Tensor) -> Share:
    """z^B: x w - low w+ - high w- for inputs between low and high (Montavon 2017).

    Args:
        low, high: the smallest and largest value of every channel, broadcasting to the inputs.
    """

    def rule(layer: Affine, x: Tensor, relevance: Tensor) -> Tensor:
        weight, _ = layer.merged(x)
        terms = [
            (x, weight),
            (-low.expand_as(x), weight.clamp(min=0)),
            (-high.expand_as(x), weight.clamp(max=0)),
        ]
        return share(layer, terms, 0.0, relevance)

    return rule


def excitation_rule(layer: Affine, x: Tensor, relevance: Tensor) -> Tensor:
    """Zhang 2016: among positive contributions, in proportion; biases take no part."""
    return _excitation(layer, x, relevance, layer.merged(x)[0])


def contrastive_rule(layer: Affine, x: Tensor, relevance: Tensor) -> Tensor:
    """Excitation minus the excitation of the dual unit, whose weights are -w (Zhang 2016)."""
    weight = layer.merged(x)[0]
    dual = _excitation(layer, x, relevance, -weight)
    return _excitation(layer, x, relevance, weight) - dual


def _excitation(layer: Affine, x: Tensor, relevance: Tensor, weight: Tensor) -> Tensor:
    up, down = (x.clamp(min=0), weight.clamp(min=0)), (x.clamp(max=0), weight.clamp(max=0))
    return share(layer, [up, down], 0.0, relevance, 0.0)


def proportional(
    function: Callable[..., Tensor], signals: Sequence[Tensor], relevance: Tensor, positive: bool
) -> tuple[Tensor, ...]:
    """Shares of the inputs of a sum or mean, in proportion to what they add.

    Args:
        function: linear in the signals together, with weights of at least 0.
        signals: its inputs.
        relevance: of its output.
        positive: only positive inputs take part.
    """
    with torch.enable_grad():
        inputs = [x.detach().clamp(min=0) if positive else x.detach() for x in signals]
        inputs = [x.requires_grad_(True) for x in inputs]
        z = function(*inputs)
    passed = relevance / away_from_zero(z.detach(), 0.0 if positive else STABILIZER)
    gradients = torch.autograd.grad(z, inputs, passed)
    return tuple(x.detach() * g for x, g in zip(inputs, gradients, strict=True))
