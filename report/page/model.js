// The data of the page, and its pictures unpacked: nodes and edges as objects, clusters as a tree.

const DATA = JSON.parse($("#data").textContent);

const PHASES = ["forward", "backward", "update"];

const STAGE_NAMES = { traced: "Forward", differentiated: "Forward and backward", fused: "As compiled" };

/** Pictures by stage, unpacked when somebody looks. Nodes know their readers, groups their nodes. */
class Pictures extends Map {
  get(stage) {
    const picture = super.get(stage);
    if (!picture || picture.groups) return picture;
    const made = unpacked(picture);
    this.set(stage, made);
    return made;
  }
}

const PICTURES = new Pictures(),
  ONCE = new Pictures(); // in ONCE equal modules stand once
for (const p of DATA.pictures.stages) (p.once ? ONCE : PICTURES).set(p.stage, p);

function unpacked(picture) {
  const { fields, numbers, strings } = DATA.pictures;
  const plain = new Set(numbers);
  const read = (x) => (Array.isArray(x) ? x.map(read) : strings[x]);
  const record = (names, row) =>
    Object.fromEntries(names.map((name, i) => [name, plain.has(name) ? row[i] : read(row[i])]));
  const nodes = picture.nodes.map((row) => record(fields.node, row));
  const edges = picture.edges.map((row) => record(fields.edge, row));
  for (const n of nodes) {
    n.where = n.line ? `${n.file.split(/[\\/]/).pop()}:${n.line}` : "";
    // what a reader may be looking for, in one string
    n.words = [n.label, n.op, n.id, n.scope, n.type, n.where, n.verdict].join(" ").toLowerCase();
  }
  return indexed({ ...picture, nodes, edges });
}

function indexed(picture) {
  const node = new Map(picture.nodes.map((n) => [n.id, n]));
  const cluster = new Map(picture.clusters.map((c) => [c.id, c]));
  const into = new Map(),
    from = new Map();
  for (const edge of picture.edges) {
    push(into, edge.target, edge);
    push(from, edge.source, edge);
  }
  const serving = new Map(); // forward value -> the nodes that compute its gradient
  for (const n of picture.nodes) if (n.serves) push(serving, n.serves, n);
  for (const n of picture.nodes) n.chain = chainOf(n, cluster);
  const groups = new Map();
  for (const n of picture.nodes) for (const key of n.chain) push(groups, key, n);
  const phases = PHASES.filter((phase) => picture.nodes.some((n) => n.phase === phase));
  return { ...picture, node, cluster, into, from, serving, groups, phases };
}

/** The keys of the groups around a node, outermost first. A module is one group forward and another one backward: folded
 *  together they would read each other's results. Everything of the update is in one group more. */
function chainOf(n, cluster) {
  const phase = n.phase || "forward";
  const keys = [];
  for (let id = n.cluster; id; id = cluster.get(id)?.parent ?? "") keys.unshift(`${phase}|${id}`);
  return phase === "update" ? ["update|", ...keys] : keys;
}

/** Adds to the list that a map has under a key. */
function push(map, key, item) {
  if (map.has(key)) map.get(key).push(item);
  else map.set(key, [item]);
}

/** phase, cluster id and label of a group. */
function groupOf(picture, key) {
  const at = key.indexOf("|");
  const [phase, id] = [key.slice(0, at), key.slice(at + 1)];
  const cluster = picture.cluster.get(id);
  return {
    key,
    phase,
    id,
    kind: cluster?.kind ?? "update",
    label: cluster?.label ?? "optimizer",
    repeats: cluster?.repeats ?? 1,
  };
}

const BAD = new Set(["dead", "wrong", "zero", "unused", "left out"]);
/** A class for the colour of a verdict. */
const verdictClass = (verdict) =>
  verdict === "learns"
    ? "good"
    : verdict === "dead" || verdict === "wrong"
      ? "bad"
      : BAD.has(verdict)
        ? "warn"
        : "calm";
