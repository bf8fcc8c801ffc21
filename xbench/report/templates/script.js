"use strict";
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const board = $("board"), body = board.tBodies[0];

// Sorting: numbers before texts, blanks always last.
const key = (row, i) => {
  const cell = row.cells[i], text = (cell.dataset.sort ?? cell.textContent).trim(), value = Number(text.replace(/[,%]/g, ""));
  return text === "" ? null : Number.isNaN(value) ? text : value;
};
board.querySelectorAll("thead button").forEach((button, i) => button.addEventListener("click", () => {
  const head = button.parentElement, sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  board.querySelectorAll("[aria-sort]").forEach(th => th.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
  [...body.rows].map(row => [key(row, i), row]).sort(([x], [y]) => {
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
  }).forEach(([, row]) => body.append(row));
}));

// Filtering rows and columns.
const refresh = () => {
  const wanted = $("filter").value.trim().toLowerCase(), family = $("family").value;
  let count = 0;
  for (const row of body.rows) {
    const name = row.querySelector("th a").textContent.toLowerCase();
    const fits = name.includes(wanted) || row.dataset.family.includes(wanted);
    row.hidden = !fits || (family && row.dataset.family !== family) || ($("placed").checked && !row.dataset.placed)
      || (!$("controls").checked && row.classList.contains("control"));
    count += !row.hidden;
  }
  $("count").textContent = `${count} of ${body.rows.length} methods`;
};
for (const id of ["filter", "family", "placed", "controls"]) $(id).addEventListener("input", refresh);
$("intervals").addEventListener("input", event => board.classList.toggle("intervals", event.target.checked));
$("groups").addEventListener("input", event => board.classList.toggle(`hide-${event.target.dataset.group}`, !event.target.checked));

// Methods in the charts: shown or hidden everywhere, end labels pushed apart again.
const settle = svg => {
  const ends = [...svg.querySelectorAll(".end:not(.hidden)")].sort((a, b) => a.dataset.y - b.dataset.y);
  const bottom = svg.viewBox.baseVal.height - 44, gap = Math.min(14, (bottom - 16) / Math.max(1, ends.length));
  let last = 16 - gap;
  ends.forEach((end, i) => {
    last = Math.min(Math.max(Number(end.dataset.y), last + gap), bottom - gap * (ends.length - 1 - i));
    end.setAttribute("transform", end.getAttribute("transform").replace(/ [\d.]+\)/, ` ${last.toFixed(1)})`));
  });
};
const picks = $("picks");
if (picks) data.methods.forEach((method, number) => {
  const label = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox";
  box.checked = method.shown;
  label.append(box, ` ${method.label}`);
  picks.append(label);
  box.addEventListener("input", () => {
    document.querySelectorAll(`.curves [data-m="${number}"]`).forEach(part => part.classList.toggle("hidden", !box.checked));
    document.querySelectorAll(".curves").forEach(settle);
  });
});
document.querySelectorAll(".curves").forEach(svg => svg.addEventListener("pointerover", event => {
  const part = event.target.closest("[data-m]");
  svg.querySelectorAll(".strong").forEach(old => old.classList.remove("strong"));
  if (part) svg.querySelectorAll(`[data-m="${part.dataset.m}"]`).forEach(one => one.classList.add("strong"));
}));

// A link to a method opens its page; printing opens all.
const reveal = () => {
  const target = location.hash && $(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", reveal);
reveal();
document.addEventListener("click", event => {
  const link = event.target.closest("a[href^='#m-']");
  if (link && link.hash === location.hash) reveal();
});
let closed = [];
addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("details:not([open])")]; closed.forEach(one => { one.open = true; }); });
addEventListener("afterprint", () => closed.forEach(one => { one.open = false; }));
