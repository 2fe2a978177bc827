// Puts the page together: overview, sections, navigation, theme, keys.

const KEYS = [
  ["/", "search the graph"],
  ["g r f t", "go to graph, gradients, findings, tape"],
  ["d", "light or dark"],
  ["?", "this list"],
  ["← ↑ → ↓", "in the graph: along its edges; on the tape: from instruction to instruction"],
  ["Enter", "unfold the selected module"],
  ["Backspace", "fold what is around"],
  ["+ − 0", "zoom, and show all"],
  ["Esc", "select nothing"],
];

// overview --------------------------------------------------------------------------------------------------------------
function overviewSection() {
  const o = DATA.overview;
  const tile = (name, value, ...more) =>
    h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, h("strong", {}, value), h("span", {}, more)));
  const frozen = o.parameters - o.trainable;
  const tiles = [
    tile("parameters", count(o.parameters), plural(o.tensors, "array"), frozen > 0 && `, ${count(frozen)} frozen`),
    o.flops !== undefined && tile("work", flops(o.flops), `${bytes(o.bytes)} moved`),
    o.arena !== undefined &&
      tile("memory", bytes(o.store + o.arena), `${bytes(o.store)} kept, ${bytes(o.arena)} arena`),
    o.time &&
      tile("time", seconds(o.time.seconds), `${seconds(o.time.bound)} at the machine's best, ${percent(o.time.share)}`),
    o.instructions !== undefined &&
      tile(
        "tape",
        whole(o.instructions),
        `instructions, ${plural(o.kernels, "kernel")}, ${plural(o.barriers, "barrier")}`,
      ),
  ].filter(Boolean);
  const stages = Object.entries(o.nodes).map(([stage, n]) => h("li", {}, h("b", {}, whole(n)), ` ${stage}`));
  if (o.instructions !== undefined) stages.push(h("li", {}, h("b", {}, whole(o.instructions)), " instructions"));
  const sizes = Object.entries(DATA.sizes)
    .map(([name, n]) => `${name} = ${n}`)
    .join(", ");
  const facts = [DATA.target, sizes, o.threads && plural(o.threads, "thread")].filter(Boolean).join(" · ");
  return h(
    "section",
    { id: "overview", "aria-labelledby": "overview-title" },
    h("h1", { id: "overview-title" }, DATA.title),
    facts && h("p", { class: "lead" }, facts),
    verdictLine(),
    h("dl", { class: "tiles" }, tiles),
    o.kinds && kindsBar(o.kinds),
    stages.length > 1 && h("ol", { class: "stages", "aria-label": "Nodes by stage" }, stages),
  );
}

function verdictLine() {
  const { summary, ok } = DATA.overview;
  return ok === null
    ? null
    : h(
        "p",
        { class: `banner ${ok ? "good" : "bad"}` },
        h("span", { "aria-hidden": "true" }, ok ? "✓" : "✕"),
        ` ${summary}`,
      );
}

/** Where the time goes, or without times the bytes: one bar, and a table for those who want the numbers. */
function kindsBar(kinds) {
  const timed = kinds.some((k) => k.seconds !== undefined);
  const value = (k) => (timed ? (k.seconds ?? 0) : k.bytes);
  const { waiting } = DATA.overview.time ?? {};
  if (waiting) kinds = [...kinds, { kind: "waiting", seconds: waiting }];
  const total = kinds.reduce((sum, k) => sum + value(k), 0) || 1;
  const part = (k) =>
    h("span", {
      class: `kind-${kindClass(k.kind)}`,
      style: `flex-grow:${(value(k) / total).toFixed(5)}`,
      title: `${k.kind}: ${percent(value(k) / total)}`,
    });
  const head = ["kind", "instructions", "work", "moved", ...(timed ? ["time", "share", "of the bound"] : ["share"])];
  const cell = (text) => h("td", { class: "number" }, text);
  const line = (k) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, h("span", { class: `swatch kind-${kindClass(k.kind)}` }), k.kind),
      cell(k.count ? whole(k.count) : ""),
      cell(k.flops ? flops(k.flops) : ""),
      cell(k.bytes ? bytes(k.bytes) : ""),
      timed && cell(seconds(k.seconds)),
      cell(percent(value(k) / total)),
      timed && cell(k.bound ? percent(k.bound / k.seconds) : ""),
    );
  return h(
    "div",
    { class: "kinds" },
    h(
      "div",
      {
        class: "stacked",
        role: "img",
        "aria-label": kinds.map((k) => `${k.kind} ${percent(value(k) / total)}`).join(", "),
      },
      kinds.map(part),
    ),
    h(
      "div",
      { class: "scroll-x" },
      h(
        "table",
        {},
        h("caption", {}, timed ? "Where the time goes" : "What is moved, by kind of instruction"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            head.map((t, i) => h("th", { scope: "col", class: i ? "number" : null }, t)),
          ),
        ),
        h("tbody", {}, kinds.map(line)),
      ),
    ),
  );
}

// theme -----------------------------------------------------------------------------------------------------------------
function stored(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return null; // a browser may refuse it to a file
  }
}

const isDark = () =>
  (document.documentElement.dataset.theme ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  $("#theme").textContent = isDark() ? "☀" : "☾";
  $("#theme").title = `${isDark() ? "Light" : "Dark"} (d)`;
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  stored("gradtape-theme", theme);
  setTheme(theme);
  announce(`${theme} theme`);
}

// the page --------------------------------------------------------------------------------------------------------------
let graphView, tapeView;

async function start() {
  setTheme(stored("gradtape-theme"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());
  $("#theme").addEventListener("click", toggleTheme);
  $("#title").textContent = DATA.title;
  const sections = [overviewSection()];
  if (PICTURES.size) sections.push((graphView = new GraphView()).element);
  if (DATA.flow.length) sections.push(new FlowTable().element);
  sections.push(findingsSection());
  if (DATA.tape) sections.push((tapeView = new TapeView(DATA.tape)).element);
  if (DATA.training) sections.push(trainingSection(DATA.training));
  $("#main").append(...sections);
  $("#footer").append(
    h("p", {}, `gradtape ${DATA.version} · ${DATA.date}`),
    h("p", {}, "Layout by Graphviz, drawing by D3."),
  );
  navigation(sections);
  help();
  addEventListener("keydown", shortcut);
  if (tapeView) {
    tapeView.draw();
    let width = innerWidth;
    addEventListener("resize", () => innerWidth !== width && ((width = innerWidth), tapeView.draw()));
  }
  if (graphView) await graphView.show();
  performance.mark("ready");
  document.documentElement.dataset.ready = "true";
}

function navigation(sections) {
  const names = { overview: "Overview" };
  const links = new Map(
    sections.map((element) => [
      element.id,
      h("a", { href: `#${element.id}` }, names[element.id] ?? $("h2", element).textContent),
    ]),
  );
  const errors = DATA.findings.filter((f) => f.severity !== "info").length;
  if (errors) links.get("findings").append(h("span", { class: "badge" }, errors));
  $("#nav").append(...links.values());
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries)
        if (entry.isIntersecting)
          for (const [id, link] of links) link.toggleAttribute("aria-current", id === entry.target.id);
    },
    { rootMargin: "-30% 0px -60% 0px" },
  );
  for (const element of sections) watcher.observe(element);
}

function help() {
  const dialog = $("#help");
  dialog.append(
    h("h2", { id: "help-title" }, "Keys"),
    h(
      "dl",
      {},
      KEYS.map(([key, text]) => [
        h(
          "dt",
          {},
          key.split(" ").map((k) => [h("kbd", {}, k), " "]),
        ),
        h("dd", {}, text),
      ]),
    ),
    h("form", { method: "dialog" }, h("button", { class: "primary" }, "Close")),
  );
  $("#help-button").addEventListener("click", () => dialog.showModal());
}

function shortcut(event) {
  if (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    event.target.matches("input, textarea, select") ||
    $("#help").open
  )
    return;
  const go = (id) => () => {
    const target = document.getElementById(id);
    target?.scrollIntoView();
    $("svg.graph, svg.tape, .scroll", target ?? document)?.focus({ preventScroll: true });
  };
  const actions = {
    "/": () => (go("graph")(), $("#search")?.focus()),
    g: go("graph"),
    r: go("gradients"),
    f: go("findings"),
    t: go("tape"),
    o: go("overview"),
    d: toggleTheme,
    "?": () => $("#help").showModal(),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

start().catch((error) => {
  document.documentElement.dataset.ready = "failed";
  console.error(error);
  $("#main").append(h("p", { class: "banner bad" }, `This report could not be drawn: ${error.message}`));
});
