"""`xbench reproduce`: every row of the protocols that a small machine can check."""

from collections.abc import Callable
from pathlib import Path

from xbench.audit.findings import Finding, findings_markdown, findings_summary
from xbench.audit.findings_linear import linear_findings
from xbench.audit.findings_photos import photo_findings
from xbench.audit.findings_planted import planted_findings
from xbench.errors import RunError

_INTRO = """# What must reproduce, and what was found

Written by `xbench reproduce`. *Hard* rows are gates; a hard row that fails is printed as it is and
ends the command with status 1. *Soft* rows are told. Figures are means over images with 95 %
bootstrap intervals. Y rows: the embedded network and planted scenes; M rows: an ImageNet
MobileNetV2 on photographs that it gets right, read from the folder that XBENCH_SAMPLE names.
"""


def reproduce(
    *, images: int, few: int, photos: int, tell: Callable[[str], None] = lambda text: None
) -> list[Finding]:
    """All findings, linear model first.

    Args:
        images: planted scenes; a third of the photographs' rows that explain again use `few`.
        few: scenes and photographs for rows that explain again.
        photos: photographs, 0 for none.
        tell: given one line whenever a part begins.
    """
    return [
        *linear_findings(),
        *planted_findings(images, few, tell),
        *photo_findings(photos, min(few, photos), tell),
    ]


def reproduction_page(findings: list[Finding]) -> str:
    """The whole page."""
    return f"{_INTRO}\n{findings_summary(findings)}\n\n{findings_markdown(findings)}"


def write_page(findings: list[Finding], page: Path) -> None:
    """Write the page.

    Raises:
        RunError: it cannot be written.
    """
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(reproduction_page(findings), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{page} cannot be written ({error.strerror or error}).") from error
