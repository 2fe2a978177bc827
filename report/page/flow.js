// Gradients: a row for every parameter, sorted and filtered.

class FlowTable {
  constructor() {
    this.order = { column: "", down: false };
    this.verdicts = new Set();
    this.text = "";
    this.norms = DATA.training?.norms ?? {};
    const measured = DATA.flow.some((f) => f.gradient !== null);
    this.columns = [
      { name: "parameter", value: (f) => f.path },
      {
        name: "shape",
        value: (f) => f.size,
        cell: (f) => shapeText(f.shape),
        title: "sorted by the number of elements",
      },
      { name: "verdict", value: (f) => f.verdict, cell: (f) => verdictCell(f) },
      {
        name: "paths",
        value: (f) => f.paths,
        cell: (f) => (f.paths >= 1000 ? "> 999" : f.paths),
        number: true,
        title: "differentiable paths from the loss",
      },
      measured && {
        name: "gradient",
        value: (f) => f.gradient ?? -1,
        cell: (f) => this.bar(f.gradient),
        number: true,
        title: "norm of the gradient, on a logarithmic scale",
      },
      DATA.flow.some((f) => f.weight !== null) && {
        name: "weight",
        value: (f) => f.weight ?? -1,
        cell: (f) => figure(f.weight),
        number: true,
        title: "norm of the parameter",
      },
      Object.keys(this.norms).length > 0 && {
        name: "over time",
        value: (f) => this.trend(f),
        cell: (f) => sparkline((this.norms[f.path] ?? []).map((r) => [r[0], r[1]])),
        title: "norm of the gradient during training; sorted by how it has grown",
      },
    ].filter(Boolean);
    if (!DATA.flow.some((f) => f.verdict))
      this.columns = this.columns.filter((c) => !["verdict", "paths"].includes(c.name));
    const known = DATA.flow
      .map((f) => f.gradient)
      .filter((g) => g > 0)
      .map(Math.log10);
    this.range = [Math.min(...known), Math.max(...known)];
    this.body = h("tbody", { onkeydown: (event) => this.key(event) });
    this.status = h("p", { class: "muted small", "aria-live": "polite" });
    this.heads = this.columns.map((column) =>
      h(
        "th",
        { scope: "col", class: column.number ? "number" : null, "aria-sort": "none" },
        button(column.name, () => this.sort(column), { title: column.title }),
      ),
    );
    const filter = h("input", {
      type: "search",
      placeholder: "Filter by name",
      "aria-label": "Filter parameters by name",
      oninput: (e) => {
        this.text = e.target.value.toLowerCase();
        this.draw();
      },
    });
    const table = h("table", { class: "flow" }, h("thead", {}, h("tr", {}, this.heads)), this.body);
    this.element = section(
      "gradients",
      "Gradients",
      "",
      h("div", { class: "toolbar" }, this.chips(), filter),
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of parameters" }, table),
      this.status,
    );
    this.draw();
  }

  chips() {
    const counts = d3.rollup(
      DATA.flow,
      (v) => v.length,
      (f) => f.verdict,
    );
    if (counts.size < 1 || counts.has("")) return null;
    return h(
      "div",
      { class: "chips", role: "group", "aria-label": "Verdicts" },
      [...counts].sort().map(([verdict, n]) =>
        h(
          "button",
          {
            type: "button",
            class: `chip ${verdictClass(verdict)}`,
            "aria-pressed": "false",
            "data-verdict": verdict,
            onclick: (event) => {
              const on = !this.verdicts.delete(verdict);
              if (on) this.verdicts.add(verdict);
              event.currentTarget.setAttribute("aria-pressed", on);
              this.draw();
            },
          },
          `${verdict} `,
          h("b", {}, n),
        ),
      ),
    );
  }

  /** A first click sorts upwards (numbers downwards), a second one the other way, a third one back to the model's order. */
  sort(column) {
    const first = Boolean(column.number);
    if (this.order.column !== column.name) this.order = { column: column.name, down: first };
    else if (this.order.down === first) this.order.down = !first;
    else this.order = { column: "", down: false };
    this.columns.forEach((c, i) =>
      this.heads[i].setAttribute(
        "aria-sort",
        c.name !== this.order.column ? "none" : this.order.down ? "descending" : "ascending",
      ),
    );
    this.draw();
  }

  draw() {
    let found = DATA.flow.filter(
      (f) => (!this.verdicts.size || this.verdicts.has(f.verdict)) && f.path.toLowerCase().includes(this.text),
    );
    const column = this.columns.find((c) => c.name === this.order.column);
    if (column)
      found = d3.sort(found, (a, b) => (this.order.down ? -1 : 1) * compared(column.value(a), column.value(b)));
    this.body.replaceChildren(
      ...found.map((f) =>
        h(
          "tr",
          {},
          this.columns.map((c) => {
            const content = c.name === "parameter" ? parameterLink(f.path) : c.cell ? c.cell(f) : c.value(f);
            return c.name === "parameter"
              ? h("th", { scope: "row" }, content)
              : h("td", { class: c.number ? "number" : null, "data-column": c.name }, content);
          }),
        ),
      ),
    );
    this.status.textContent =
      found.length === DATA.flow.length
        ? plural(found.length, "parameter")
        : `${found.length} of ${plural(DATA.flow.length, "parameter")}`;
  }

  /** Up and down from row to row. */
  key(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = step && event.target.closest("tr")?.[step]?.querySelector("button");
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  bar(value) {
    if (value === null) return "";
    const [low, high] = this.range;
    const share = value > 0 ? (high > low ? 0.06 + (0.94 * (Math.log10(value) - low)) / (high - low) : 1) : 0;
    return h(
      "span",
      { class: "bar-cell" },
      figure(value),
      h("span", { class: "meter", "aria-hidden": "true" }, h("i", { style: `width:${(share * 100).toFixed(1)}%` })),
    );
  }

  trend(f) {
    const series = (this.norms[f.path] ?? []).map((r) => r[1]).filter((v) => v > 0);
    return series.length > 1 ? Math.log(series.at(-1) / series[0]) : 0;
  }
}

const compared = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);

const verdictCell = (f) => [
  h("span", { class: `verdict ${verdictClass(f.verdict)}` }, f.verdict),
  f.because && h("span", { class: "muted small" }, ` ${f.because}`),
];

/** A parameter's name, which leads to it in the graph where there is one. */
const parameterLink = (path) =>
  PICTURES.size
    ? button(path, () => showParameter(path), { class: "link", title: "show it in the graph" })
    : h("span", { class: "name" }, path);

function showParameter(path) {
  const stage = [graphView.stage, ...PICTURES.keys()].find((name) => PICTURES.get(name)?.node.has(path));
  if (stage) graphView.reveal(path, stage);
}

/** A line without axes, on a logarithmic scale. */
function sparkline(points, [width, height] = [110, 20]) {
  const good = points.filter(([, y]) => y > 0);
  if (good.length < 2) return "";
  const x = d3.scaleLinear(
    d3.extent(good, (p) => p[0]),
    [1, width - 1],
  );
  const y = d3.scaleLog(
    d3.extent(good, (p) => p[1]),
    [height - 2, 2],
  );
  const line = d3.line(
    (p) => x(p[0]).toFixed(1),
    (p) => y(p[1]).toFixed(1),
  );
  return s(
    "svg",
    {
      class: "spark",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `from ${figure(good[0][1])} to ${figure(good.at(-1)[1])}`,
    },
    s("path", { d: line(good) }),
  );
}
