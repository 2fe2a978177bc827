// The tape: what each thread does, one instruction after the other, and below it the arena: which buffer lies where, and
// from when until when. Both have one axis: time where it was measured, else the number of the instruction.

const LANE = 30;
const ARENA_HEIGHT = 300;
const LEFT = 64; // for the names of threads and the sizes of the arena

class TapeView {
  constructor(tape) {
    this.tape = tape;
    this.timed = tape.spans.length > 0;
    this.selected = -1;
    this.spans = this.timed ? tape.spans : untimed(tape);
    this.edges = edgesOf(tape, this.spans);
    this.end = Math.max(1, ...this.spans.map((span) => span[3]));
    this.details = h("aside", { class: "details", tabindex: -1, "aria-label": "Details of the instruction" });
    this.svg = s("svg", {
      class: "tape",
      tabindex: 0,
      role: "group",
      "aria-label": "Tape. Left and right go from instruction to instruction, plus and minus zoom.",
    });
    const kinds = [...new Set(tape.instructions.map((i) => i.kind))];
    const legend = h(
      "ul",
      { class: "legend flat", "aria-label": "Colours" },
      kinds.map((kind) => h("li", {}, h("span", { class: `swatch kind-${kindClass(kind)}` }), kind)),
    );
    const phases = h(
      "ul",
      { class: "legend flat", "aria-label": "Phases" },
      ["forward", "saved", "backward", "update"].map((p) =>
        h("li", {}, h("span", { class: `swatch ${p}` }), p === "saved" ? "made forward, read backward" : p),
      ),
    );
    const lead = this.timed
      ? `${plural(tape.instructions.length, "instruction")} on ${plural(tape.threads, "thread")}; gaps are waiting. Below, the arena at the same times.`
      : `${plural(tape.instructions.length, "instruction")} on ${plural(tape.threads, "thread")}, in order and without times. Below, the arena meanwhile.`;
    const zoom = (factor) => () => d3.select(this.svg).call(this.zoom.scaleBy, factor);
    this.tools = h(
      "div",
      { class: "toolbar" },
      legend,
      h(
        "div",
        { class: "tools" },
        button("−", zoom(1 / 1.6), { "aria-label": "Zoom out" }),
        button("+", zoom(1.6), { "aria-label": "Zoom in" }),
        button("All", () => this.reset()),
      ),
    );
    this.element = section(
      "tape",
      "Tape",
      lead,
      this.tools,
      h("div", { class: "split" }, h("div", { class: "stage" }, this.svg, phases), this.details),
      this.largest(),
    );
    this.zoom = d3
      .zoom()
      .scaleExtent([1, Math.max(8, tape.instructions.length / 4)])
      .filter((event) =>
        event.type === "wheel" ? event.ctrlKey || event.metaKey || document.activeElement === this.svg : !event.button,
      )
      .on("zoom", ({ transform }) => this.rescale(transform));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("pointermove", (event) => this.hover(event));
    this.svg.addEventListener("pointerleave", (event) => tip(event, null));
    this.svg.addEventListener("click", (event) => this.click(event));
    this.describe();
  }

  /** Draws at the present width; called again when that changes. */
  draw() {
    const width = Math.max(280, this.svg.clientWidth || this.svg.parentElement.clientWidth);
    const { tape } = this;
    const lanes = tape.threads * LANE + 8; // the strip of phases is above them
    const arenaTop = lanes + 34;
    const height = arenaTop + ARENA_HEIGHT + 24;
    this.width = width;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.x = d3.scaleLinear([0, this.end], [LEFT, width - 6]);
    const place = (offset) => arenaTop + ARENA_HEIGHT * (1 - offset / Math.max(1, tape.arena));
    const at = this.x;
    const box = (x0, x1, y, h, attributes) =>
      s("rect", { x: at(x0), y, width: Math.max(0.4, at(x1) - at(x0)), height: Math.max(0.6, h), ...attributes });
    const phases = runs(tape.instructions).map(([phase, first, last]) =>
      box(this.edges[first][0], this.edges[last][1], 0, 4, { class: phase }),
    );
    const spans = this.spans.map(([number, thread, start, stop]) =>
      box(start, stop, 8 + thread * LANE, LANE - 6, {
        class: `span kind-${kindClass(tape.instructions[number]?.kind)}`,
        "data-i": number,
      }),
    );
    const buffers = tape.buffers.map((b, n) =>
      b.offset === undefined
        ? null
        : box(
            this.edges[b.from][0],
            this.edges[b.to][1],
            place(b.offset + b.bytes),
            (ARENA_HEIGHT * b.bytes) / Math.max(1, tape.arena),
            { class: `buffer ${this.phaseOf(b)}`, "data-b": n },
          ),
    );
    this.moving = s("g", {}, phases, spans, buffers.filter(Boolean));
    this.cursor = s("line", { class: "cursor", y1: 0, y2: height - 22, "vector-effect": "non-scaling-stroke" });
    this.moving.append(this.cursor);
    const clip = s("clipPath", { id: "tape-clip" }, s("rect", { x: LEFT, y: 0, width: width - LEFT - 6, height }));
    const sizes = d3
      .scaleLinear([0, tape.arena], [arenaTop + ARENA_HEIGHT, arenaTop])
      .ticks(4)
      .map((b) =>
        s(
          "g",
          { class: "tick" },
          s("line", { x1: LEFT, x2: width - 6, y1: place(b), y2: place(b) }),
          s("text", { x: LEFT - 8, y: place(b) + 4 }, bytes(b)),
        ),
      );
    const threads = d3
      .range(tape.threads)
      .map((t) => s("text", { class: "lane", x: LEFT - 8, y: 8 + t * LANE + LANE / 2 + 1 }, `thread ${t}`));
    this.axis = s("g", { class: "axis", transform: `translate(0,${arenaTop + ARENA_HEIGHT + 2})` });
    this.svg.replaceChildren(
      s("defs", {}, clip),
      ...sizes,
      s("text", { class: "lane", x: LEFT, y: arenaTop - 8, style: "text-anchor:start" }, `arena, ${bytes(tape.arena)}`),
      ...threads,
      s("g", { "clip-path": "url(#tape-clip)" }, this.moving),
      this.axis,
    );
    this.zoom
      .extent([
        [LEFT, 0],
        [width - 6, height],
      ])
      .translateExtent([
        [LEFT, 0],
        [width - 6, height],
      ]);
    d3.select(this.svg).call(this.zoom).on("dblclick.zoom", null);
    this.rescale(d3.zoomTransform(this.svg));
    this.highlight();
  }

  /** Only along the time: rectangles keep their heights. */
  rescale(transform) {
    this.moving.setAttribute("transform", `translate(${transform.x},0) scale(${transform.k},1)`);
    const axis = d3
      .axisBottom(transform.rescaleX(this.x))
      .ticks(Math.max(2, this.width / 110))
      .tickSizeOuter(0);
    if (this.timed) axis.tickFormat((us) => seconds(us * 1e-6));
    else axis.tickFormat((n) => (Number.isInteger(n) ? n : ""));
    d3.select(this.axis).call(axis);
  }

  reset() {
    d3.select(this.svg).call(this.zoom.transform, d3.zoomIdentity);
  }

  /** A buffer has the colour of what makes it; one that forward makes and backward still reads is what training keeps. */
  phaseOf(b) {
    const [first, last] = [this.tape.instructions[b.from].phase, this.tape.instructions[b.to].phase];
    return first === "forward" && last !== "forward" ? "saved" : first;
  }

  hover(event) {
    const { i, b } = event.target.dataset ?? {};
    if (i !== undefined) {
      const instr = this.tape.instructions[i];
      if (instr)
        tip(event, [
          `#${i} ${instr.label}`,
          `${instr.kind} · ${instr.phase}`,
          instr.scope,
          instr.seconds !== undefined && seconds(instr.seconds),
        ]);
    } else if (b !== undefined) {
      const buffer = this.tape.buffers[b];
      tip(event, [
        `%${buffer.name}`,
        `${bytes(buffer.bytes)} of ${buffer.dtype}`,
        `from instruction ${buffer.from} to ${buffer.to}`,
      ]);
    } else tip(event, null);
  }

  click(event) {
    const { i, b } = event.target.dataset ?? {};
    if (i !== undefined) this.select(Number(i));
    else if (b !== undefined) this.selectBuffer(Number(b));
  }

  select(number, scroll = false) {
    this.selected = number;
    this.buffer = -1;
    this.highlight();
    this.describe();
    if (scroll) this.element.scrollIntoView({ block: "start" });
    this.keepVisible();
  }

  selectBuffer(number) {
    this.buffer = number;
    this.selected = -1;
    this.highlight();
    this.describe();
  }

  keepVisible() {
    const [start, stop] = this.edges[this.selected] ?? [0, 0];
    const t = d3.zoomTransform(this.svg);
    const [x0, x1] = [t.applyX(this.x(start)), t.applyX(this.x(stop))];
    if (x0 < LEFT || x1 > this.width - 6)
      d3.select(this.svg).call(this.zoom.translateTo, this.x((start + stop) / 2), 0, [(LEFT + this.width) / 2, 0]);
  }

  highlight() {
    const { tape } = this;
    const instr = tape.instructions[this.selected];
    const touched = new Set(instr ? [...instr.reads, ...instr.writes] : [this.buffer]);
    this.svg.classList.toggle("has-selection", Boolean(instr) || this.buffer >= 0);
    for (const element of this.moving.children) {
      const { i, b } = element.dataset;
      const users =
        this.buffer >= 0 &&
        i !== undefined &&
        tape.instructions[i] &&
        [...tape.instructions[i].reads, ...tape.instructions[i].writes].includes(this.buffer);
      element.classList.toggle(
        "selected",
        (i !== undefined && (Number(i) === this.selected || users)) || (b !== undefined && touched.has(Number(b))),
      );
    }
    const [start, stop] = this.edges[this.selected] ?? [];
    this.cursor.setAttribute("visibility", instr ? "visible" : "hidden");
    if (instr) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x((start + stop) / 2));
  }

  key(event) {
    const last = this.tape.instructions.length - 1;
    const { selected } = this;
    const actions = {
      ArrowRight: () => this.select(Math.min(last, selected + 1)),
      ArrowLeft: () => this.select(Math.max(0, selected - 1)),
      Home: () => this.select(0),
      End: () => this.select(last),
      0: () => this.reset(),
      "+": () => d3.select(this.svg).call(this.zoom.scaleBy, 1.6),
      "=": () => d3.select(this.svg).call(this.zoom.scaleBy, 1.6),
      "-": () => d3.select(this.svg).call(this.zoom.scaleBy, 1 / 1.6),
      Escape: () => {
        this.selected = this.buffer = -1;
        this.highlight();
        this.describe();
      },
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  describe() {
    const { tape } = this;
    const instr = tape.instructions[this.selected];
    const buffer = tape.buffers[this.buffer];
    const content = instr
      ? this.instructionDetails(instr)
      : buffer
        ? this.bufferDetails(buffer)
        : [
            h(
              "p",
              { class: "muted" },
              "Click an instruction for its kernel, its work and what it reads and writes; click a buffer for who makes and uses it.",
            ),
          ];
    this.details.replaceChildren(...content.flat(Infinity).filter(Boolean));
    if (instr) announce(`instruction ${this.selected}, ${instr.label}, ${instr.phase}, ${instr.scope}`);
  }

  instructionDetails(instr) {
    const { tape } = this;
    const named = (numbers) =>
      numbers
        .map((n) => tape.buffers[n])
        .filter((b) => b.segment !== "error")
        .map((b) => `%${b.name}`)
        .join(", ");
    const share = instr.seconds ? instr.bound / instr.seconds : 0;
    return [
      h("h3", {}, `#${this.selected} ${instr.label}`, h("span", { class: `chip ${instr.phase}` }, instr.phase)),
      rows(
        row("kernel", h("code", {}, instr.kernel)),
        row("axes", instr.axes.join(" × ") || "one"),
        instr.rounds > 1 && row("rounds", whole(instr.rounds)),
        row(
          "threads",
          instr.shares
            .map((n, t) => (n === null ? null : t))
            .filter((t) => t !== null)
            .join(", ") + (instr.barrier ? ", after all have met" : ""),
        ),
        instr.seconds !== undefined &&
          row("time", seconds(instr.seconds), share > 0 && ` · ${percent(share)} of the bound`),
        row("work", [instr.flops ? flops(instr.flops) : "", bytes(instr.bytes)].filter(Boolean).join(", ")),
        instr.scope && row("module", h("code", {}, instr.scope)),
        instr.line > 0 && row("line", place(instr.file, instr.line)),
        instr.reads.length > 0 && row("reads", named(instr.reads)),
        row("writes", named(instr.writes)),
      ),
      instr.line > 0 && excerpt(instr.file, instr.line, 1),
      tape.kernels[instr.kernel] && folded("Code of the kernel", code(tape.kernels[instr.kernel])),
    ];
  }

  bufferDetails(b) {
    const { tape } = this;
    const using = (field) =>
      tape.instructions.map((i, n) => (i[field].includes(this.buffer) ? n : -1)).filter((n) => n >= 0);
    return [
      h("h3", {}, `%${b.name}`),
      rows(
        row("size", `${bytes(b.bytes)} of ${b.dtype}`),
        row("place", `${bytes(b.offset)} into the arena`),
        row("reserved", `instructions ${b.from} to ${b.to}`),
        row("written by", instructionLinks(using("writes")) ?? "nobody"),
        row("read by", instructionLinks(using("reads")) ?? "nobody"),
      ),
    ];
  }

  largest() {
    const top = this.tape.buffers
      .filter((b) => b.offset !== undefined)
      .sort((a, b) => b.bytes - a.bytes)
      .slice(0, 8);
    if (!top.length) return null;
    return h(
      "details",
      { class: "largest" },
      h("summary", {}, "Largest buffers of the arena"),
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["value", "size", "from", "to"].map((t, i) => h("th", { scope: "col", class: i ? "number" : null }, t)),
          ),
        ),
        h(
          "tbody",
          {},
          top.map((b) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, `%${b.name}`),
              h("td", { class: "number" }, bytes(b.bytes)),
              h("td", { class: "number" }, `#${b.from}`),
              h("td", { class: "number" }, `#${b.to}`),
            ),
          ),
        ),
      ),
    );
  }
}

/** [instruction, thread, start, stop], where nothing was measured: each instruction takes one. */
const untimed = (tape) =>
  tape.instructions.flatMap((instr, i) =>
    instr.shares.flatMap((share, t) => (share === null ? [] : [[i, t, i, i + 0.92]])),
  );

/** Start and stop of every instruction over all threads; one that nobody was seen to run is where the one before ends. */
function edgesOf(tape, spans) {
  const edges = tape.instructions.map(() => null);
  for (const [i, , start, stop] of spans) {
    if (i < 0 || i >= edges.length) continue;
    edges[i] = edges[i] ? [Math.min(edges[i][0], start), Math.max(edges[i][1], stop)] : [start, stop];
  }
  let last = 0;
  return edges.map((e) => (e ? ((last = e[1]), e) : [last, last]));
}

/** [phase, first, last] of every stretch of instructions of one phase. */
function runs(instructions) {
  const found = [];
  instructions.forEach((instr, n) => {
    if (found.length && found.at(-1)[0] === instr.phase) found.at(-1)[2] = n;
    else found.push([instr.phase, n, n]);
  });
  return found;
}

const KIND_CLASSES = [
  "waiting",
  "rows",
  "gemm",
  "triangle",
  "gather",
  "copy",
  "combine",
  "conv",
  "sort",
  "scan",
  "check",
];
const kindClass = (kind) => (KIND_CLASSES.includes(kind) ? kind : "other");
