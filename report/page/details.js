// What is told of the thing that was clicked: a node, a module, an instruction, a buffer.

const emptyDetails = () => [
  h(
    "p",
    { class: "muted" },
    "Click a node for its type, line, derivative and kernel. Double-click a module to unfold it, or go there with the arrow keys and press Enter.",
  ),
];

const row = (name, ...value) => [h("dt", {}, name), h("dd", {}, value)];
const rows = (...pairs) => h("dl", {}, pairs.filter(Boolean));
const folded = (title, ...content) => h("details", {}, h("summary", {}, title), content);

function nodeDetails(n, picture, view) {
  const readers = (picture.from.get(n.id) ?? []).filter((e) => e.kind !== "broken");
  const sources = (picture.into.get(n.id) ?? []).filter((e) => e.kind !== "broken");
  return [
    h(
      "h3",
      {},
      n.kind === "param" ? n.id : n.label,
      h("span", { class: `chip ${n.phase}` }, n.kind === "op" ? n.phase : n.kind),
    ),
    n.verdict && h("p", { class: `verdict ${verdictClass(n.verdict)}` }, n.verdict, n.because && ` · ${n.because}`),
    n.formula && n.kind !== "cut" && h("p", { class: "formula" }, n.formula),
    n.kind === "cut" && h("p", { class: "verdict bad" }, n.formula),
    rows(
      n.type && row("type", h("code", {}, n.type)),
      n.scope && row("module", h("code", {}, n.scope)),
      n.line && row("line", place(n.file, n.line)),
      ...n.attrs.map(([name, value]) => row(name, h("code", {}, value))),
      sources.length &&
        row(
          "reads",
          links(
            sources.map((e) => e.source),
            picture,
            view,
          ),
        ),
      readers.length &&
        row(
          "read by",
          links(
            readers.map((e) => e.target),
            picture,
            view,
          ),
        ),
      n.serves && row("gradient of", h("code", {}, `%${n.serves}`)),
    ),
    n.line && excerpt(n.file, n.line),
    derivative(n, picture, view),
    n.kernel && [h("h4", {}, "Kernel"), h("p", { class: "small" }, n.kernel), instructionLinks(n.instructions)],
    kernelCode(n.instructions),
  ]
    .flat(Infinity)
    .filter(Boolean);
}

function derivative(n, picture, view) {
  if (n.kind === "cut") return n.derivative && [h("h4", {}, "Write"), code(n.derivative)];
  const other = PICTURES.get("differentiated");
  const serving = (picture.stage === "traced" ? other : picture)?.serving.get(n.id) ?? [];
  if (!n.derivative && !serving.length) return null;
  return [
    h("h4", {}, "Derivative"),
    n.derivative &&
      (n.derivative.includes("\n") || n.derivative.includes("return")
        ? code(n.derivative)
        : h("p", { class: "small" }, n.derivative)),
    serving.length > 0 &&
      h(
        "p",
        { class: "small" },
        "in this program ",
        links(
          serving.map((m) => m.id),
          picture.stage === "traced" ? other : picture,
          view,
        ),
      ),
  ];
}

/** Buttons that lead to nodes. */
function links(ids, picture, view) {
  const unique = [...new Set(ids)];
  const shown = unique.slice(0, 8).map((id) => {
    const n = picture.node.get(id);
    return button(n ? (n.kind === "param" ? n.id : n.label) : id, () => view.reveal(id, picture.stage), {
      class: "link",
      title: n ? `%${id}: ${n.type}` : id,
    });
  });
  return [
    shown.flatMap((link, i) => (i ? [", ", link] : [link])),
    unique.length > 8 && ` and ${unique.length - 8} more`,
  ];
}

function instructionLinks(numbers) {
  if (!DATA.tape || !numbers.length) return null;
  const shown = numbers
    .slice(0, 12)
    .map((i) =>
      button(`#${i}`, () => tapeView.select(i, true), { class: "link", title: DATA.tape.instructions[i]?.label }),
    );
  return h(
    "p",
    { class: "small" },
    "on the tape ",
    shown.flatMap((link, i) => (i ? [", ", link] : [link])),
    numbers.length > 12 && ` and ${numbers.length - 12} more`,
  );
}

function kernelCode(numbers) {
  const names = [...new Set(numbers.map((i) => DATA.tape?.instructions[i]?.kernel))].filter(
    (name) => DATA.tape?.kernels[name],
  );
  return names.slice(0, 3).map((name) => folded(`Code of ${name}`, code(DATA.tape.kernels[name])));
}

function groupDetails(group, picture, view) {
  const nodes = picture.groups.get(group.key);
  const parameters = nodes.filter((n) => n.kind === "param");
  const ops = new Map();
  for (const n of nodes) if (n.kind === "op") ops.set(n.op, (ops.get(n.op) ?? 0) + 1);
  const common = [...ops].sort((a, b) => b[1] - a[1]).slice(0, 10);
  const cluster = picture.cluster.get(group.id);
  return [
    h("h3", {}, group.label, h("span", { class: `chip ${group.phase}` }, group.phase)),
    h(
      "p",
      {},
      button("Unfold", () => view.unfold(group.key), { class: "primary" }),
    ),
    rows(
      row(group.kind, h("code", {}, group.id || group.label)),
      row("nodes", whole(nodes.length)),
      common.length && row("ops", common.map(([op, n]) => (n > 1 ? `${op} ×${n}` : op)).join(", ")),
      cluster?.repeats > 1 && row("stands for", cluster.names.join(", ")),
      parameters.length && row("elements", whole(parameters.reduce((sum, p) => sum + sizeOf(p), 0))),
    ),
    parameters.length > 0 && h("h4", {}, "Parameters"),
    parameters.length > 0 &&
      h(
        "ul",
        { class: "plain-list" },
        parameters
          .slice(0, 40)
          .map((p) =>
            h(
              "li",
              {},
              h("span", { class: `dot ${p.verdict ? verdictClass(p.verdict) : "calm"}`, title: p.verdict }),
              links([p.id], picture, view),
              h("span", { class: "muted" }, ` ${p.type}`),
            ),
          ),
      ),
  ]
    .flat(Infinity)
    .filter(Boolean);
}

const sizeOf = (p) => DATA.flow.find((f) => f.path === p.id)?.size ?? 0;
