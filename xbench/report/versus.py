"""A comparison in words: sentences, a Markdown page, a paragraph and a table for a paper."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xbench.report.latex import plain
from xbench.report.tables import gates_text, mean_rank_text, number
from xbench.statistics.comparisons import BEYOND
from xbench.statistics.versus import Duel, Versus

NAMED = 4
_VERDICTS = {
    "better": "better than {better} of {all} baselines and worse than none",
    "worse": "worse than {worse} of {all} baselines and better than none",
    "equal": "not shown to differ from any of {all} baselines",
    "mixed": "better than {better} and worse than {worse} of {all} baselines",
}
_MARKS = {"better": r"$\blacktriangle$", "worse": r"$\triangledown$", "open": ""}


def headline(found: Versus) -> str:
    """The verdict in one sentence."""
    if found.verdict == "refused":
        reasons = "; ".join(f"{r.gate.replace('_', ' ')} ({r.reason})" for r in found.failed)
        return f"{found.method} is not to be used: it fails {reasons}."
    if found.verdict == "unranked":
        return f"{found.method} has no rank: {found.unranked}."
    text = _VERDICTS[found.verdict].format(
        better=len(found.of("better")), worse=len(found.of("worse")), all=len(found.overall)
    )
    few = "; with so few images that is preliminary" if found.board.preliminary else ""
    return f"{found.method} is {text}, over {_over(found)}{few}."


def lines(found: Versus) -> list[str]:
    """Every finding, one sentence each: ranks, metrics, gates, cost, power."""
    text = [headline(found)]
    for verdict, words in (("better", "Better than"), ("worse", "Worse than"), ("open", "Open")):
        duels = [duel for duel in found.overall if duel.verdict == verdict]
        if duels and verdict == "open":
            text.append(f"No difference is shown to {_names([d.baseline for d in duels])}.")
        elif duels:
            text.append(f"{words} {'; '.join(_rank_gain(duel) for duel in duels)}.")
    text += [_metric_line(found, metric) for metric in _metrics(found)]
    text += [_gates_line(found), _cost_line(found), *_power_lines(found)]
    return text


def paragraph(found: Versus, manifest: Mapping[str, Any]) -> str:
    """A paragraph to paste into a paper, with every figure that a reviewer asks for."""
    metrics = [metric.label.replace("_", " ") for metric in found.board.ranking.metrics]
    data, model = manifest["dataset"], manifest["model"]
    parts = [
        f"We compare {found.method} with {len(found.baselines)} saliency methods "
        f"({', '.join(found.baselines)}) on {found.board.images} images of {data['name']} and the "
        f"classifier {model['name']} with xbench {manifest['xbench']} (seed {manifest['seed']}). "
        f"Methods are ranked per image by {len(metrics)} metrics ({', '.join(metrics)}); ranks are "
        "averaged within and then over properties."
    ]
    if found.overall:
        standing = found.board.ranking.standing(found.method)
        assert standing is not None
        parts.append(
            f"Its mean rank is {standing.mean_rank.value:.2f} (95 % bootstrap interval "
            f"[{standing.mean_rank.low:.2f}, {standing.mean_rank.high:.2f}]) among "
            f"{len(found.board.ranking.methods)} methods. It is better than "
            f"{len(found.of('better'))}, worse than {len(found.of('worse'))} and not shown to "
            f"differ from {len(found.of('open'))} of {len(found.overall)} baselines (two-sided "
            f"paired Wilcoxon tests over images, Holm-corrected, alpha = {found.alpha:g})."
        )
    else:
        parts.append(f"It has no rank: {found.unranked}.")
    parts += [_gates_line(found), _cost_line(found), *_power_lines(found)]
    return " ".join(parts)


def markdown_page(found: Versus, manifest: Mapping[str, Any]) -> str:
    """The whole comparison as a Markdown page."""
    body = [f"# {found.method} against {len(found.baselines)} baselines", ""]
    body += [f"- {line}" for line in lines(found)]
    body += ["", "## For a paper", "", paragraph(found, manifest), ""]
    body += ["Its table is in `comparison.tex`, every test in `comparison.json`.", ""]
    body += ["## Every test by mean rank", ""]
    body += ["| baseline | gain in mean rank | 95 % | Holm p | dz | images needed | verdict |"]
    body += ["|---|---|---|---|---|---|---|"]
    for duel in sorted(found.overall, key=lambda one: -one.gain.value):
        needed = "" if math.isinf(duel.needed) else f"{duel.needed:,.0f}"
        body.append(
            f"| {duel.baseline} | {duel.gain.value:+.2f} | [{duel.gain.low:+.2f}, "
            f"{duel.gain.high:+.2f}] | {duel.corrected:.2g} | {duel.dz:.2f} | {needed} | "
            f"{duel.verdict} |"
        )
    return "\n".join(body) + "\n"


def latex_table(found: Versus, manifest: Mapping[str, Any]) -> str:
    """A booktabs table: mean rank with its test, one metric a property, calls and failed gates."""
    board, shown = found.board, _one_a_property(found)
    duels = {duel.baseline: duel for duel in found.overall}
    arrows = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}
    heads = [f"{plain(m.label.replace('_', ' '))} {arrows[m.direction]}" for m in shown]
    rows = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{plain(found.method)} (bold) against {len(found.baselines)} baselines on "
        rf"{board.images} images of {plain(manifest['dataset']['name'])}, classifier "
        rf"{plain(manifest['model']['name'])}. {_MARKS['better']}: the method is better by mean "
        rf"rank, {_MARKS['worse']}: it is worse (paired Wilcoxon, Holm, $\alpha={found.alpha:g}$). "
        r"Controls in italics.}",
        rf"\begin{{tabular}}{{ll{'r' * (len(shown) + 2)}}}",
        r"\toprule",
        " & ".join(["Method", "", "Mean rank", *heads, "Calls"]) + r" \\",
        r"\midrule",
    ]
    for row in board.rows:
        name = plain(row.method)
        name = rf"\textbf{{{name}}}" if row.method == found.method else name
        name = rf"\textit{{{name}}}" if row.control else name
        name += "$^*$" if row.failed and not row.control else ""
        duel = duels.get(row.method)
        cells = [name, _MARKS[duel.verdict] if duel else "", mean_rank_text(row) or "--"]
        for metric in shown:
            mean = number(row.cells[metric.label].mean)
            cells.append(f"${mean}$" if mean.startswith("-") else mean or "--")
        rows.append(" & ".join([*cells, number(row.calls, 0)]) + r" \\")
    rows += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    starred = [f"{r.method}: {gates_text(r)}" for r in board.rows if r.failed and not r.control]
    notes = ["% needs \\usepackage{booktabs,amssymb}", *(f"% * {plain(one)}" for one in starred)]
    return "\n".join([*notes, *rows]) + "\n"


def _over(found: Versus) -> str:
    metrics = found.board.ranking.metrics
    properties = {metric.property for metric in metrics}
    words = "property" if len(properties) == 1 else "properties"
    images = found.board.ranking.images
    return f"{len(metrics)} metrics of {len(properties)} {words} on {images} images"


def _rank_gain(duel: Duel) -> str:
    return (
        f"{duel.baseline} (by {abs(duel.gain.value):.2f} of a rank, Holm p = {duel.corrected:.2g})"
    )


def _metrics(found: Versus) -> list[str]:
    return list(dict.fromkeys(duel.metric for duel in found.metrics))


def _metric_line(found: Versus, metric: str) -> str:
    duels = [duel for duel in found.metrics if duel.metric == metric]
    counts = {v: [d for d in duels if d.verdict == v] for v in ("better", "worse", "open")}
    text = (
        f"{metric}: better than {len(counts['better'])}, worse than {len(counts['worse'])}, "
        f"open with {len(counts['open'])} of {len(duels)}"
    )
    worst = min(duels, key=lambda duel: duel.gain.value)
    if worst.gain.value < 0:
        low, high = number(worst.gain.low), number(worst.gain.high)
        text += f"; furthest behind {worst.baseline} ({number(worst.gain.value)} [{low}, {high}])"
    return text + "."


def _gates_line(found: Versus) -> str:
    by: dict[str, list[str]] = {"pass": [], "fail": [], "not tested": []}
    for gate in found.board.card.gates:
        result = found.gates[gate]
        why = "" if result.verdict == "pass" else f" ({result.reason})"
        by[result.verdict].append(gate.replace("_", " ") + why)
    words = (("pass", "passes"), ("fail", "fails"), ("not tested", "was not put to"))
    parts = [f"{verb} {', '.join(by[verdict])}" for verdict, verb in words if by[verdict]]
    return f"Gates: it {'; it '.join(parts)}." if parts else "The board has no gates."


def _cost_line(found: Versus) -> str:
    if math.isnan(found.calls):
        return "Its maps could not be made."
    ratio = found.calls / found.baseline_calls if found.baseline_calls else math.nan
    times = "" if math.isnan(ratio) else f", {ratio:.2g} times the baselines' median"
    return f"A map costs {found.calls:,.0f} model calls{times} ({found.seconds * 1000:,.1f} ms)."


def _power_lines(found: Versus) -> list[str]:
    if not found.overall:
        return []
    images = found.board.ranking.images
    if math.isinf(found.detectable):
        text = [
            f"{images} images cannot show a difference over {len(found.overall)} comparisons; "
            "take more."
        ]
    else:
        text = [
            f"{images} images show differences of {found.detectable:.2f} standard deviations with "
            "80 % power."
        ]
    open_ = [d for d in found.overall if d.verdict == "open" and math.isfinite(d.needed)]
    close = sorted((d for d in open_ if d.images < d.needed <= BEYOND), key=lambda d: d.needed)[:1]
    text += [
        f"About {d.needed - d.images:,.0f} more images would settle {d.baseline}." for d in close
    ]
    return text


def _one_a_property(found: Versus) -> list[Any]:
    seen: dict[str, Any] = {}
    for metric in found.board.ranking.metrics:
        seen.setdefault(metric.property, metric)
    return list(seen.values())


def _names(labels: Sequence[str]) -> str:
    shown = list(labels[:NAMED])
    if len(labels) > NAMED:
        shown.append(f"{len(labels) - NAMED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
