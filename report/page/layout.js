// What of a picture is to be seen, and where it lies. Graphviz does the layout, in the page, on what is unfolded.

const GAP = { x: 14, y: 8 }; // within a box, around its text
const pen = document.createElement("canvas").getContext("2d");
const FONT = { label: "600 12px system-ui, sans-serif", small: "11px system-ui, sans-serif" };

const engine = graphviz.Graphviz.load(); // at once: it gets ready while the rest of the page is made

/** The boxes, frames and arrows of a picture when the groups in `open` are unfolded and `phases` are shown. */
function visible(picture, open, phases) {
  const shown = new Map(); // node id -> key of the box that stands for it
  const boxes = new Map(),
    frames = new Map();
  for (const n of picture.nodes) {
    if (!phases.has(n.phase || "forward")) continue;
    const closed = n.chain.findIndex((key) => !open.has(key));
    const around = closed < 0 ? n.chain : n.chain.slice(0, closed);
    const key = closed < 0 ? n.id : n.chain[closed];
    shown.set(n.id, key);
    around.forEach((frame, i) => frames.has(frame) || frames.set(frame, around[i - 1] ?? ""));
    if (!boxes.has(key))
      boxes.set(key, closed < 0 ? nodeBox(n, around.at(-1) ?? "") : groupBox(picture, key, around.at(-1) ?? ""));
  }
  const arrows = new Map();
  for (const edge of picture.edges) {
    const [a, b] = [shown.get(edge.source), shown.get(edge.target)];
    if (a === undefined || b === undefined || a === b) continue;
    const key = `${a}\n${b}\n${edge.kind}`;
    const arrow = arrows.get(key);
    if (arrow) ((arrow.count += edge.count || 1), (arrow.broken ||= edge.broken));
    else
      arrows.set(key, {
        source: a,
        target: b,
        kind: edge.kind,
        type: edge.type,
        label: edge.label,
        broken: edge.broken,
        count: edge.count || 1,
      });
  }
  return { boxes, frames, arrows: [...arrows.values()], shown };
}

/** What is unfolded at first: modules that only hold others (`blocks`), so that one sees the layers; the same forward and
 *  backward. Where that leaves next to nothing, because one module is the whole model, a level more. */
function startOf(picture) {
  const direct = new Set(),
    inner = new Map(); // clusters with a node of their own, and those inside of each
  for (const n of picture.nodes) {
    direct.add(n.cluster);
    for (let id = n.cluster, outer; id; id = outer)
      if ((outer = picture.cluster.get(id)?.parent)) push(inner, outer, id);
  }
  const open = new Set();
  for (const key of picture.groups.keys()) {
    const { id } = groupOf(picture, key);
    if (id && !direct.has(id) && new Set(inner.get(id)).size > 1) open.add(key);
  }
  const phases = new Set(picture.phases.filter((p) => p !== "update" || picture.phases.length === 1));
  for (let round = 0; round < 4 && visible(picture, open, phases).boxes.size < 8; round++)
    for (const box of visible(picture, new Set(open), phases).boxes.values()) if (box.group) open.add(box.key);
  return { open, phases, always: new Set(open) };
}

function nodeBox(n, frame) {
  const lines = [n.label, n.type.length > 34 ? `${n.type.slice(0, 33)}…` : n.type].filter(Boolean);
  return sized({ key: n.id, node: n, frame, phase: n.phase || "forward", lines });
}

function groupBox(picture, key, frame) {
  const group = groupOf(picture, key);
  const nodes = picture.groups.get(key);
  const parameters = nodes.filter((n) => n.kind === "param");
  const worst = parameters.map((n) => verdictClass(n.verdict));
  const verdict = ["bad", "warn", "good"].find((v) => worst.includes(v)) ?? "";
  const told = [plural(nodes.length - parameters.length, "op")];
  if (parameters.length) told.push(plural(parameters.length, "parameter"));
  if (group.repeats > 1) told.unshift(`${group.repeats} times`);
  const label = titleOf(group);
  return sized({
    key,
    group,
    frame,
    phase: group.phase,
    verdict,
    broken: nodes.some((n) => n.broken),
    lines: [label, told.join(" · ")],
  });
}

/** What to write on a group; backward it is the derivative of the module. */
const titleOf = ({ phase, label }) => (phase === "backward" ? `∂ ${label}` : label);

function sized(box) {
  box.width = Math.ceil(
    2 * GAP.x +
      Math.max(
        ...box.lines.map((line, i) => ((pen.font = i ? FONT.small : FONT.label), pen.measureText(line).width)),
        24,
      ),
  );
  box.height = 2 * GAP.y + 15 * box.lines.length;
  return box;
}

/** The view with places: boxes get x, y (their middle), frames a rectangle, arrows a path. */
async function placed(view, picture) {
  const gv = await engine;
  const { text, names, frameNames } = dotOf(view, picture);
  const found = JSON.parse(gv.layout(text, "json0", "dot"));
  const [, , width, height] = found.bb.split(",").map(Number);
  const flip = (y) => height - y;
  view.rectangles = new Map();
  for (const object of found.objects ?? []) {
    if (frameNames.has(object.name)) {
      if (!object.bb) continue;
      const [x0, y0, x1, y1] = object.bb.split(",").map(Number);
      view.rectangles.set(frameNames.get(object.name), { x: x0, y: flip(y1), width: x1 - x0, height: y1 - y0 });
    } else if (names.has(object.name)) {
      const [x, y] = object.pos.split(",").map(Number);
      Object.assign(names.get(object.name), { x, y: flip(y) });
    }
  }
  for (const edge of found.edges ?? []) {
    const arrow = view.arrows[Number(edge.comment)];
    if (arrow && edge.pos) arrow.path = pathOf(edge.pos, flip);
  }
  return Object.assign(view, { width, height });
}

/** DOT. Forward goes down; backward is laid out against its direction, so that it goes up beside the forward that it
 *  belongs to, and what forward keeps for it are short links across. */
function dotOf(view, picture) {
  const names = new Map(),
    ids = new Map(),
    frameNames = new Map();
  const lines = [
    "digraph {",
    "graph [nodesep=0.22, ranksep=0.38, pad=0.1];",
    'node [shape=box, fixedsize=true, label=""];',
    "edge [arrowsize=0.6];",
  ];
  const inside = new Map();
  for (const box of view.boxes.values()) push(inside, box.frame, box);
  const frames = new Map();
  for (const [key, outer] of view.frames) push(frames, outer, key);
  const emit = (frame) => {
    for (const box of inside.get(frame) ?? []) {
      const id = `n${names.size}`;
      names.set(id, box);
      ids.set(box.key, id);
      lines.push(`${id} [width=${(box.width / 72).toFixed(3)}, height=${(box.height / 72).toFixed(3)}];`);
    }
    for (const key of frames.get(frame) ?? []) {
      const id = `cluster_${frameNames.size}`;
      frameNames.set(id, key);
      const label = titleOf(groupOf(picture, key));
      pen.font = FONT.label;
      // an empty label of the real one's size keeps its place free
      lines.push(
        `subgraph ${id} {`,
        `label=<<table border="0"><tr><td fixedsize="true" width="${Math.ceil(pen.measureText(label).width) + 40}" height="16"></td></tr></table>>; labeljust=l; margin=10;`,
      );
      emit(key);
      lines.push("}");
    }
  };
  emit("");
  view.arrows.forEach((arrow, i) => {
    const [a, b] = [view.boxes.get(arrow.source), view.boxes.get(arrow.target)];
    const upwards = a.phase === "backward" && b.phase === "backward";
    const across = a.phase !== b.phase;
    const ends = upwards ? [ids.get(b.key), ids.get(a.key)] : [ids.get(a.key), ids.get(b.key)];
    const options = [`comment="${i}"`];
    if (upwards) options.push("dir=back");
    if (arrow.label.startsWith("next ")) options.push("constraint=false"); // back to the beginning
    if (across) options.push(b.phase === "update" ? "constraint=false" : "minlen=0");
    options.push(`weight=${across ? 1 : 4}`);
    lines.push(`${ends[0]} -> ${ends[1]} [${options.join(", ")}];`);
  });
  lines.push("}");
  return { text: lines.join("\n"), names, frameNames };
}

/** Graphviz's `e,x,y x,y ...` (control points of a curve, perhaps the tip of an arrow before them) as an SVG path that
 *  ends at the tip. */
function pathOf(pos, flip) {
  let tipAt = null,
    back = false;
  const points = [];
  for (const word of pos.split(/[ ;]+/)) {
    const parts = word.split(",");
    const [x, y] = parts.slice(-2).map(Number);
    if (parts.length === 3) ((tipAt = [x, flip(y)]), (back = parts[0] === "s"));
    else points.push([x, flip(y)]);
  }
  if (back) points.reverse();
  const [start, ...rest] = points;
  const curves = [];
  for (let i = 0; i + 2 < rest.length; i += 3)
    curves.push(
      `C${rest
        .slice(i, i + 3)
        .map((p) => p.join(","))
        .join(" ")}`,
    );
  return `M${start.join(",")}${curves.join("")}${tipAt ? `L${tipAt.join(",")}` : ""}`;
}
