"""The page in headless Chromium: offline, without errors, and everything on it works."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from report_runs import changed, small_run

from xbench.report.findings import gather
from xbench.report.html import render
from xbench.running.session import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
LISTEN = """<script>
window.faults = [];
addEventListener("error", event => faults.push(String(event.message)), true);
addEventListener("unhandledrejection", event => faults.push(String(event.reason)));
for (const kind of ["error", "warn"]) console[kind] = (...words) => faults.push(words.join(" "));
window.alert = words => faults.push(`alert ${words}`);
</script>"""
REPORT = """<script>
const found = {ready: performance.now()};
const guarded = part => { try { part(); } catch (fault) { faults.push(String(fault)); } };
guarded(() => { BEGIN });
addEventListener("load", () => {
  guarded(() => { FINISH });
  found.faults = faults;
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>"""
BEGIN = """const names = () => [...document.querySelectorAll("#board tbody tr")]
  .filter(row => !row.hidden)
  .map(row => row.querySelector("th a").textContent);
const head = name => [...document.querySelectorAll("#board thead button")]
  .find(button => button.textContent.startsWith(name));
const set = (id, value) => { const field = document.getElementById(id);
  if (field.type === "checkbox") field.checked = value; else field.value = value;
  field.dispatchEvent(new Event("input", {bubbles: true})); };
const column = name => { const i = [...document.querySelectorAll("#board thead button")]
  .indexOf(head(name)); return [...document.querySelectorAll("#board tbody tr")]
  .map(row => row.cells[i].dataset.sort ?? row.cells[i].textContent); };
found.start = names();
head("deletion").click();
found.ascending = column("deletion");
found.sort = head("deletion").parentElement.getAttribute("aria-sort");
head("deletion").click();
found.descending = column("deletion");
found.sortedBack = head("deletion").parentElement.getAttribute("aria-sort");
head("place").click();
found.again = names();
set("filter", "gradcam");
found.filtered = names();
found.count = document.getElementById("count").textContent;
set("filter", "");
set("controls", false);
found.explainers = names();
set("controls", true);
const shown = () => document.querySelector("#board td.p0").offsetWidth > 0;
found.columns = [shown()];
for (let i = 0; i < 2; i += 1) {
  document.querySelector("#groups input").click();
  found.columns.push(shown());
}
document.querySelector("#board tbody a").click();
const box = document.querySelector("#picks input");
const line = () => document.querySelectorAll('.curves .series[data-m="0"].hidden').length;
const before = line();
box.click();
found.toggled = before !== line();
const pictures = [...document.querySelectorAll(".pic")];
for (const one of pictures) {  // as images, so that the load event waits for them
  const image = document.createElement("img");
  image.src = getComputedStyle(one).backgroundImage.slice(5, -2);
  image.className = "probe";
  image.hidden = true;
  one.append(image);
}
"""
FINISH = """const target = document.getElementById(location.hash.slice(1));
found.opened = target.open;
found.page = target.querySelector("summary b").textContent;
found.pictures = document.querySelectorAll(".pic").length;
found.broken = [...document.querySelectorAll(".probe")].filter(image => {
  const one = image.parentElement, left = -parseFloat(getComputedStyle(one).backgroundPositionX);
  return !image.complete || left + one.offsetWidth > image.naturalWidth;
}).length;
found.charts = [...document.querySelectorAll("svg.chart")]
  .map(svg => svg.getAttribute("aria-label"));
found.fetched = performance.getEntriesByType("resource").map(one => one.name)
  .filter(name => !name.startsWith("data:")).length;
found.unnamed = [...document.querySelectorAll("input, select, button")]
  .filter(one => !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).length;
found.width = innerWidth;
found.overflow = document.documentElement.scrollWidth - innerWidth;
found.dark = matchMedia("(prefers-color-scheme: dark)").matches;
found.paper = getComputedStyle(document.body).backgroundColor;
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return render(gather(run))


def visit(page: str, folder: Path, *options: str) -> dict[str, Any]:
    """Load the page in Chromium, use it, and say what was found when it had loaded."""
    text = page.replace("<head>", f"<head>{LISTEN}", 1)
    script = REPORT.replace("BEGIN", BEGIN).replace("FINISH", FINISH)
    path = folder / "page.html"
    path.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    dumped = subprocess.run(
        [str(CHROMIUM), *OPTIONS, profile, *options, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    ).stdout
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert found, dumped[-2000:]
    return dict(json.loads(unescape(found.group(1))))


@pytest.fixture(scope="module")
def desktop(page: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return visit(page, tmp_path_factory.mktemp("desktop"), "--window-size=1280,900")


@pytest.fixture(scope="module")
def phone(page: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    dark = "--blink-settings=preferredColorScheme=0"
    return visit(page, tmp_path_factory.mktemp("phone"), "--window-size=390,844", dark)


def test_no_errors_and_nothing_fetched(desktop: dict[str, Any]) -> None:
    assert desktop["faults"] == []
    assert desktop["fetched"] == 0


def test_it_sorts(desktop: dict[str, Any]) -> None:
    rising = [float(text) for text in desktop["ascending"]]
    assert rising == sorted(rising)
    assert rising[0] < rising[-1]
    assert [float(text) for text in desktop["descending"]] == rising[::-1]
    assert [desktop["sort"], desktop["sortedBack"]] == ["ascending", "descending"]
    assert desktop["again"] == desktop["start"]


def test_it_filters(desktop: dict[str, Any]) -> None:
    assert desktop["filtered"] == ["gradcam"]
    assert desktop["count"] == "1 of 6 methods"
    assert sorted(desktop["explainers"]) == ["gradcam", "gradient", "input_x_gradient"]
    assert desktop["columns"] == [True, False, True]


def test_it_opens_a_method_and_picks_curves(desktop: dict[str, Any]) -> None:
    assert desktop["opened"]
    assert desktop["page"] == desktop["start"][0]
    assert desktop["toggled"]


def test_every_picture_and_chart_is_there(desktop: dict[str, Any]) -> None:
    assert desktop["pictures"] >= 28
    assert desktop["broken"] == 0
    assert len(desktop["charts"]) >= 6
    assert all(desktop["charts"])


def test_everything_has_a_name_for_screen_readers(desktop: dict[str, Any]) -> None:
    assert desktop["unnamed"] == 0


def test_a_phone_in_the_dark(phone: dict[str, Any]) -> None:
    assert phone["faults"] == []
    assert phone["width"] <= 500  # the narrowest that headless Chromium lays out
    assert phone["overflow"] <= 0
    assert phone["dark"]
    assert phone["paper"] == "rgb(20, 24, 28)"


def test_it_is_there_within_two_seconds(desktop: dict[str, Any], phone: dict[str, Any]) -> None:
    assert min(desktop["ready"], phone["ready"]) < 2000


def test_an_attack_by_names_does_nothing(run: Run, tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"

    def names(manifest: dict[str, Any]) -> None:
        manifest["dataset"]["class_names"] = [attack] * 8
        manifest["dataset"]["name"] = attack
        manifest["methods"][0]["card"]["summary"] = attack

    found = visit(render(gather(changed(run, tmp_path / "run", names))), tmp_path)
    assert found["faults"] == []
    assert found["opened"]
