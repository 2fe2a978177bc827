// The graph: zoom, pan, fold, select, by mouse and by keyboard.

const EASY = 1500; // boxes that are laid out and drawn without a noticeable wait

class GraphView {
  constructor() {
    this.stage = [...PICTURES.keys()].includes("differentiated") ? "differentiated" : [...PICTURES.keys()][0];
    this.states = new Map(); // picture -> {open, phases}: what is unfolded stays so when another stage was looked at
    this.once = ONCE.size > 0; // equal modules stand once
    this.selected = "";
    this.details = h("aside", { class: "details", tabindex: -1, "aria-label": "Details of what is selected" });
    this.canvas = s("svg", {
      class: "graph",
      role: "group",
      "aria-label": "The graph. Arrow keys go along its edges, Enter unfolds.",
      tabindex: 0,
    });
    this.layer = s("g");
    this.canvas.append(arrowHeads(), this.layer);
    this.zoom = d3
      .zoom()
      .scaleExtent([0.02, 4])
      .filter((event) => this.zooms(event))
      .on("zoom", ({ transform }) => {
        this.layer.setAttribute("transform", transform);
        this.canvas.classList.toggle("far", transform.k < 0.45);
      });
    d3.select(this.canvas).call(this.zoom).on("dblclick.zoom", null);
    this.canvas.addEventListener("click", (event) => event.target === this.canvas && this.select(""));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.element = section(
      "graph",
      "Graph",
      "",
      this.toolbar(),
      h(
        "div",
        { class: "split" },
        h("div", { class: "stage" }, this.canvas, this.zoomTools(), this.legend()),
        this.details,
      ),
    );
    this.showDetails("");
  }

  /** The wheel scrolls the page until the graph has the focus; a drag pans always. */
  zooms(event) {
    if (event.type === "wheel") return event.ctrlKey || event.metaKey || this.canvas.contains(document.activeElement);
    return !event.button;
  }

  get picture() {
    return (this.once && ONCE.get(this.stage)) || PICTURES.get(this.stage);
  }

  get state() {
    const { picture } = this;
    if (!this.states.has(picture)) this.states.set(picture, startOf(picture));
    return this.states.get(picture);
  }

  // tools ---------------------------------------------------------------------------------------------------------------
  toolbar() {
    this.stages = h("div", { class: "segments", role: "group", "aria-label": "Stage" });
    for (const stage of PICTURES.keys())
      this.stages.append(button(STAGE_NAMES[stage] ?? stage, () => this.show(stage), { "data-stage": stage }));
    this.repeats = button(
      "Equal blocks once",
      () => {
        this.once = !this.once;
        this.selected = "";
        this.show();
      },
      { class: "chip" },
    );
    this.phases = h("div", { class: "chips", role: "group", "aria-label": "Phases" });
    this.search = new Search(this);
    const fold = h(
      "div",
      { class: "tools", role: "group", "aria-label": "Fold" },
      button("Fold all", () => this.foldAll()),
      button("Unfold a level", () => this.unfoldLevel()),
      button("Unfold all", () => this.unfoldAll()),
    );
    return h("div", { class: "toolbar" }, this.stages, this.phases, this.search.element, fold);
  }

  zoomTools() {
    const by = (factor) => () =>
      d3
        .select(this.canvas)
        .transition()
        .duration(calm() ? 0 : 150)
        .call(this.zoom.scaleBy, factor);
    return h(
      "div",
      { class: "zoom", role: "group", "aria-label": "Zoom" },
      button("+", by(1.4), { "aria-label": "Zoom in" }),
      button("−", by(1 / 1.4), { "aria-label": "Zoom out" }),
      button("⤢", () => this.fit(), { "aria-label": "Show all of it", title: "Show all of it" }),
    );
  }

  legend() {
    const item = (name, text) => h("li", {}, h("span", { class: `swatch ${name}` }), text);
    return h(
      "ul",
      { class: "legend", "aria-label": "Colours" },
      item("forward", "forward"),
      item("backward", "backward"),
      item("saved", "kept for backward"),
      item("good", "learns"),
      item("bad", "cut"),
    );
  }

  // drawing -------------------------------------------------------------------------------------------------------------
  /** Draws a stage; what is not said stays. */
  async show(stage = this.stage, { fit = true } = {}) {
    this.stage = stage;
    for (const b of this.stages.children) b.setAttribute("aria-pressed", b.dataset.stage === stage);
    this.drawPhases();
    const { picture, state } = this;
    const before = this.view?.boxes.get(this.selectedBox());
    const view = visible(picture, state.open, state.phases);
    this.canvas.setAttribute("aria-busy", "true");
    if (view.boxes.size > EASY) await new Promise((done) => setTimeout(done, 30)); // lets the browser say so
    try {
      await placed(view, picture);
    } catch (error) {
      this.canvas.removeAttribute("aria-busy");
      this.details.replaceChildren(h("p", { class: "banner bad" }, `This cannot be laid out: ${error.message}`));
      return;
    }
    if (picture !== this.picture) return; // another stage was asked for meanwhile
    this.view = view;
    this.draw();
    this.canvas.removeAttribute("aria-busy");
    if (fit) this.fit(false);
    else this.keepInPlace(before);
    this.mark();
  }

  drawPhases() {
    const {
      state: { phases },
      picture,
    } = this;
    this.repeats.setAttribute("aria-pressed", picture === ONCE.get(this.stage));
    this.phases.replaceChildren(
      ...(ONCE.has(this.stage) ? [this.repeats] : []),
      ...(picture.phases.length < 2
        ? []
        : picture.phases.map((phase) =>
            button(
              phase,
              () => {
                if (phases.has(phase) && phases.size > 1) phases.delete(phase);
                else phases.add(phase);
                this.show();
              },
              { class: `chip ${phase}`, "aria-pressed": phases.has(phase) },
            ),
          )),
    );
  }

  draw() {
    const { view } = this;
    this.canvas.dataset.boxes = view.boxes.size;
    this.items = new Map();
    const frames = [...view.rectangles].map(([key, r]) => this.drawFrame(key, r));
    this.paths = view.arrows
      .filter((a) => a.path)
      .map((arrow) => {
        const classes = ["edge", arrow.kind, arrow.broken && "broken", this.view.boxes.get(arrow.source).phase]
          .filter(Boolean)
          .join(" ");
        const told = [arrow.type, arrow.label, arrow.count > 1 && `${arrow.count} edges`].filter(Boolean).join("\n");
        const path = s("path", { class: classes, d: arrow.path }, s("title", {}, told));
        path.arrow = arrow;
        return path;
      });
    const boxes = [...view.boxes.values()].map((box) => this.drawBox(box));
    this.layer.replaceChildren(s("g", {}, frames), s("g", {}, this.paths), s("g", {}, boxes));
  }

  drawFrame(key, r) {
    const group = groupOf(this.picture, key);
    const toggle = () => this.fold(key);
    return s(
      "g",
      { class: `frame ${group.phase} ${group.kind}` },
      s("rect", { x: r.x, y: r.y, width: r.width, height: r.height, rx: 8 }),
      s(
        "g",
        { class: "fold", role: "button", "aria-label": `Fold ${group.label}`, onclick: toggle, "data-fold": key },
        s("title", {}, "Fold"),
        s("rect", { class: "hit", x: r.x + 2, y: r.y + 2, width: Math.max(40, r.width - 4), height: 24 }),
        s("text", { x: r.x + 10, y: r.y + 18 }, `▾ ${titleOf(group)}`),
      ),
    );
  }

  drawBox(box) {
    const { node, group } = box;
    const kind = node ? node.kind : "group";
    const verdict = node?.verdict ? verdictClass(node.verdict) : box.verdict;
    const classes = [
      "box",
      kind,
      box.phase,
      verdict && `verdict-${verdict}`,
      (node?.broken || box.broken) && "broken",
    ].filter(Boolean);
    const [x, y] = [box.x - box.width / 2, box.y - box.height / 2];
    const text = box.lines.map((line, i) =>
      s("text", { class: i ? "small" : "label", x: box.x, y: y + GAP.y + 11 + 15 * i }, line),
    );
    const item = s(
      "g",
      {
        class: classes.join(" "),
        role: "button",
        tabindex: -1,
        "data-key": box.key,
        "aria-label": `${node ? "" : "module "}${box.lines.join(", ")}${node?.verdict ? `, ${node.verdict}` : ""}, ${box.phase}`,
        "aria-expanded": group ? "false" : null,
        onclick: (event) => (event.detail > 1 ? null : this.select(box.key)),
        ondblclick: () => group && this.unfold(box.key),
      },
      s("rect", {
        x,
        y,
        width: box.width,
        height: box.height,
        rx: kind === "view" || kind === "input" || kind === "output" ? 14 : 5,
      }),
      group && s("path", { class: "stack", d: `M${x + 4},${y + box.height + 3}h${box.width - 8}` }),
      text,
    );
    this.items.set(box.key, item);
    return item;
  }

  // where one looks -----------------------------------------------------------------------------------------------------
  size() {
    const { width, height } = this.canvas.getBoundingClientRect();
    return [width || 800, height || 500];
  }

  fit(animated = true) {
    if (!this.view) return;
    const [width, all] = this.size();
    const height = all - 36; // the legend is below
    const k = Math.min(1.15, (0.94 * width) / this.view.width, (0.92 * height) / this.view.height);
    // a long program: rather its beginning at a size that can be read than all of it as a thread
    const readable = Math.max(k, Math.min(0.55, (0.94 * width) / this.view.width));
    const x = (width - readable * this.view.width) / 2;
    const y = readable > k ? 16 : (height - readable * this.view.height) / 2;
    this.go(d3.zoomIdentity.translate(x, y).scale(readable), animated);
  }

  go(transform, animated = true) {
    const target = d3.select(this.canvas);
    if (animated && !calm()) target.transition().duration(250).call(this.zoom.transform, transform);
    else target.call(this.zoom.transform, transform);
  }

  center(key, animated = true) {
    const box = this.view.boxes.get(key);
    if (!box) return;
    const [width, height] = this.size();
    const k = Math.max(0.8, d3.zoomTransform(this.canvas).k);
    this.go(d3.zoomIdentity.translate(width / 2 - k * box.x, height / 2 - k * box.y).scale(k), animated);
  }

  /** After folding: what was selected stays where it was on the screen. */
  keepInPlace(before) {
    const now = this.view.boxes.get(this.selectedBox());
    if (!before || !now) return this.fit();
    const t = d3.zoomTransform(this.canvas);
    const k = Math.max(t.k, 0.6);
    this.go(d3.zoomIdentity.translate(t.applyX(before.x) - k * now.x, t.applyY(before.y) - k * now.y).scale(k), false);
  }

  // folding -------------------------------------------------------------------------------------------------------------
  unfold(key) {
    this.state.open.add(key);
    const nodes = this.picture.groups.get(key);
    const depth = nodes[0].chain.indexOf(key) + 1;
    const first = nodes[0].chain[depth] ?? nodes[0].id;
    announce(`${groupOf(this.picture, key).label} unfolded`);
    this.selectLater(first, key);
    return this.show(this.stage, { fit: false });
  }

  fold(key) {
    this.state.open.delete(key);
    announce(`${groupOf(this.picture, key).label} folded`);
    this.selectLater(key);
    return this.show(this.stage, { fit: false }).then(() => this.focusItem(key));
  }

  /** What is selected after the next drawing; `before` stands for it until then. */
  selectLater(key, before = key) {
    this.standIn = before;
    this.selected = key;
  }

  foldAll() {
    this.state.open.clear();
    for (const key of startOf(this.picture).always) this.state.open.add(key);
    this.selected = "";
    return this.show();
  }

  unfoldLevel() {
    const { open, phases } = this.state;
    for (const box of visible(this.picture, new Set(open), phases).boxes.values()) if (box.group) open.add(box.key);
    return this.show();
  }

  unfoldAll() {
    for (const key of this.picture.groups.keys()) this.state.open.add(key);
    return this.show();
  }

  /** Unfolds what is around a node, selects it and shows it in the middle. */
  async reveal(id, stage = this.stage) {
    this.stage = stage;
    if (!this.picture.node.has(id)) this.once = false; // it stands for itself only where nothing else stands for it
    const node = this.picture.node.get(id);
    if (!node) return;
    node.chain.forEach((key) => this.state.open.add(key));
    this.state.phases.add(node.phase || "forward");
    this.selected = id;
    await this.show(stage, { fit: false });
    this.select(id);
    this.center(id, false);
    this.element.scrollIntoView({ block: "start" });
  }

  // selecting -----------------------------------------------------------------------------------------------------------
  /** The box that shows what is selected, which may be in a folded one. */
  selectedBox() {
    const key = this.view?.boxes.has(this.selected) ? this.selected : this.view?.shown.get(this.selected);
    return key ?? this.standIn ?? "";
  }

  select(key) {
    this.selected = key;
    this.standIn = key;
    this.mark();
  }

  mark() {
    const key = this.selectedBox();
    for (const item of this.layer.querySelectorAll(".selected, .near")) item.classList.remove("selected", "near");
    const item = this.items?.get(key);
    this.canvas.classList.toggle("has-selection", Boolean(item));
    if (item) item.classList.add("selected");
    for (const path of this.paths ?? []) {
      const { source, target } = path.arrow;
      const near = Boolean(item) && (source === key || target === key);
      path.classList.toggle("near", near);
      if (near) for (const end of [source, target]) if (end !== key) this.items.get(end)?.classList.add("near");
    }
    for (const other of this.items?.values() ?? []) other.setAttribute("tabindex", other === item ? 0 : -1);
    this.canvas.setAttribute("tabindex", item ? -1 : 0);
    this.showDetails(key);
  }

  showDetails(key) {
    const box = this.view?.boxes.get(key);
    const content = !box
      ? emptyDetails()
      : box.node
        ? nodeDetails(box.node, this.picture, this)
        : groupDetails(box.group, this.picture, this);
    this.details.replaceChildren(...content);
    this.details.scrollTop = 0;
  }

  focusItem(key) {
    const item = this.items.get(key);
    if (!item) return;
    this.select(key);
    item.focus({ preventScroll: true });
    this.bringIntoView(key);
  }

  bringIntoView(key) {
    const box = this.view.boxes.get(key);
    const t = d3.zoomTransform(this.canvas);
    const [width, height] = this.size();
    const [x, y] = t.apply([box.x, box.y]);
    if (x < 40 || x > width - 40 || y < 40 || y > height - 40) this.center(key);
  }

  // keys ----------------------------------------------------------------------------------------------------------------
  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const key = this.selectedBox();
    const box = this.view?.boxes.get(key);
    const actions = {
      ArrowDown: () => this.walk("down"),
      ArrowUp: () => this.walk("up"),
      ArrowLeft: () => this.walk("left"),
      ArrowRight: () => this.walk("right"),
      Enter: () =>
        box?.group ? this.unfold(key).then(() => this.focusItem(this.selectedBox())) : this.details.focus(),
      " ": () => box?.group && this.unfold(key).then(() => this.focusItem(this.selectedBox())),
      Backspace: () => box && box.frame && this.fold(box.frame),
      Escape: () => {
        this.select("");
        this.canvas.focus();
      },
      "+": () => d3.select(this.canvas).call(this.zoom.scaleBy, 1.3),
      "=": () => d3.select(this.canvas).call(this.zoom.scaleBy, 1.3),
      "-": () => d3.select(this.canvas).call(this.zoom.scaleBy, 1 / 1.3),
      0: () => this.fit(),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  /** To the nearest box in a direction, those that an edge leads to first. */
  walk(direction) {
    const here = this.view.boxes.get(this.selectedBox());
    if (!here) return this.focusItem(topBox(this.view)?.key);
    const ahead = { down: [0, 1], up: [0, -1], left: [-1, 0], right: [1, 0] }[direction];
    const linked = new Set(
      this.view.arrows.flatMap((a) => (a.source === here.key ? [a.target] : a.target === here.key ? [a.source] : [])),
    );
    let best = null,
      least = Infinity;
    for (const box of this.view.boxes.values()) {
      if (box === here) continue;
      const [dx, dy] = [box.x - here.x, box.y - here.y];
      const along = dx * ahead[0] + dy * ahead[1];
      const aside = Math.abs(dx * ahead[1]) + Math.abs(dy * ahead[0]);
      if (along <= 4) continue;
      const cost = along + 2 * aside - (linked.has(box.key) ? 1e4 : 0);
      if (cost < least) ((best = box), (least = cost));
    }
    if (best) this.focusItem(best.key);
  }
}

function topBox(view) {
  return [...view.boxes.values()].sort((a, b) => a.y - b.y)[0];
}

function arrowHeads() {
  const head = (name) =>
    s(
      "marker",
      {
        id: `head-${name}`,
        class: `head ${name}`,
        viewBox: "0 0 10 10",
        refX: 9,
        refY: 5,
        markerWidth: 7,
        markerHeight: 7,
        orient: "auto",
      },
      s("path", { d: "M0,1L10,5L0,9z" }),
    );
  return s("defs", {}, ["data", "saved", "broken", "near"].map(head));
}

/** Whether the reader would rather have nothing move. */
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
