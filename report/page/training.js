// What a training has left behind: the loss, the norm of the gradient, the learning rate, and norms by parameter.

function trainingSection(training) {
  const { curves, norms } = training;
  const charts = [];
  const loss = [
    ["loss", "training"],
    ["val_loss", "validation"],
  ].filter(([name]) => curves[name]?.length);
  if (loss.length)
    charts.push(
      chart(
        "Loss",
        loss.flatMap(([name, label]) =>
          name === "loss" && curves.loss.length > 60
            ? [
                { label, points: curves.loss, faint: true },
                { label: `${label}, smoothed`, points: smoothed(curves.loss) },
              ]
            : [{ label, points: curves[name], dots: name === "val_loss" }],
        ),
      ),
    );
  if (curves.grad_norm?.length)
    charts.push(
      chart("Norm of the gradient", [{ label: "gradient", points: smoothed(curves.grad_norm) }], {
        log: true,
        small: true,
      }),
    );
  if (curves.lr?.length)
    charts.push(chart("Learning rate", [{ label: "learning rate", points: curves.lr }], { small: true }));
  for (const [name, points] of Object.entries(curves))
    if (!["loss", "val_loss", "grad_norm", "lr", "per_second"].includes(name))
      charts.push(chart(name, [{ label: name, points }], { small: true }));
  const named = Object.entries(norms);
  const maps = named.length
    ? [
        heatmap("Gradient norms", named, (r) => r[1]),
        heatmap("Updates, relative to the weights", named, (r) => (r[3] > 0 ? r[2] / r[3] : 0)),
      ]
    : [];
  return section("training", "Training", training.name, h("div", { class: "charts" }, charts, maps));
}

/** A running mean that forgets over about a fiftieth of the points. */
function smoothed(points) {
  const keep = 1 - 1 / Math.max(2, points.length / 50);
  let total = 0,
    weight = 0;
  return points.map(([x, y]) => {
    total = keep * total + y;
    weight = keep * weight + 1;
    return [x, total / weight];
  });
}

/** Lines over steps, with the values under the pointer. Redrawn at the width that it is given. */
function chart(title, series, { log = false, small = false } = {}) {
  const [width, height] = small ? [460, 190] : [940, 300];
  const margin = { top: 10, right: 12, bottom: 24, left: 48 };
  const all = series.flatMap((line) => line.points);
  const x = d3.scaleLinear(
    d3.extent(all, (p) => p[0]),
    [margin.left, width - margin.right],
  );
  const values = all.map((p) => p[1]).filter((v) => !log || v > 0);
  const y = (log ? d3.scaleLog() : d3.scaleLinear())
    .domain(limits(values, log))
    .range([height - margin.bottom, margin.top])
    .nice(log ? undefined : 5);
  const line = d3
    .line(
      (p) => x(p[0]).toFixed(1),
      (p) => y(p[1]).toFixed(1),
    )
    .defined((p) => !log || p[1] > 0);
  const clip = `clip-${(chart.number = (chart.number ?? 0) + 1)}`;
  const cursor = s("line", { class: "cursor", y1: margin.top, y2: height - margin.bottom, visibility: "hidden" });
  const element = s(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `${title}: ${series.map((one) => `${one.label} from ${figure(one.points[0][1])} to ${figure(one.points.at(-1)[1])}`).join("; ")}`,
    },
    s(
      "clipPath",
      { id: clip },
      s("rect", {
        x: margin.left,
        y: 0,
        width: width - margin.left - margin.right,
        height: height - margin.bottom + 2,
      }),
    ),
    s("g", { class: "axis grid", transform: `translate(${margin.left},0)` }),
    s("g", { class: "axis", transform: `translate(0,${height - margin.bottom})` }),
    s(
      "g",
      { "clip-path": `url(#${clip})` },
      series.map((one, i) => [
        s("path", { class: `series series-${i} ${one.faint ? "faint" : ""}`, d: line(one.points) }),
        one.dots &&
          one.points.length < 80 &&
          one.points.map((p) => s("circle", { class: `series-${i}`, cx: x(p[0]), cy: y(p[1]), r: 2.5 })),
      ]),
    ),
    cursor,
  );
  const [left, bottom] = element.querySelectorAll(".axis");
  d3.select(left).call(
    d3
      .axisLeft(y)
      .ticks(small ? 3 : 6, log ? "~g" : undefined)
      .tickSize(-(width - margin.left - margin.right)),
  );
  d3.select(bottom).call(d3.axisBottom(x).ticks(small ? 4 : 8));
  element.addEventListener("pointermove", (event) => {
    const at = x.invert(d3.pointer(event, element)[0]);
    const nearest = series.map(
      (one) => one.points[Math.min(one.points.length - 1, d3.bisector((p) => p[0]).center(one.points, at))],
    );
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(nearest[0][0]));
    cursor.setAttribute("visibility", "visible");
    tip(event, [`step ${whole(nearest[0][0])}`, ...series.map((one, i) => `${one.label} ${figure(nearest[i][1])}`)]);
  });
  element.addEventListener("pointerleave", (event) => (cursor.setAttribute("visibility", "hidden"), tip(event, null)));
  const legend =
    series.length > 1 &&
    h(
      "ul",
      { class: "legend flat" },
      series.map((one, i) =>
        h("li", {}, h("span", { class: `swatch series-${i} ${one.faint ? "faint" : ""}` }), one.label),
      ),
    );
  return h("figure", { class: small ? "small" : "wide" }, h("figcaption", {}, title, legend), element);
}

/** Without the few points of the first steps that would press all the rest flat. */
function limits(values, log) {
  const sorted = d3.sort(values);
  const low = sorted[0],
    high = Math.max(d3.quantileSorted(sorted, 0.995), sorted[Math.floor(sorted.length * 0.9)]);
  return low < high ? [low, high] : [low - (log ? low / 2 : 1), low + 1];
}

/** Steps across, parameters down; brighter is more, on a logarithmic scale. */
function heatmap(title, named, value) {
  const steps = [...new Set(named.flatMap(([, list]) => list.map((r) => r[0])))].sort((a, b) => a - b);
  const at = new Map(steps.map((step, i) => [step, i]));
  const cells = named.map(([, list]) => list.map((r) => [at.get(r[0]), value(r)]));
  const known = d3.sort(
    cells
      .flat()
      .map((c) => c[1])
      .filter((v) => v > 0),
  );
  const color = d3
    .scaleSequentialLog(
      [d3.quantileSorted(known, 0.01) ?? 1e-9, d3.quantileSorted(known, 0.99) ?? 1],
      d3.interpolateViridis,
    )
    .clamp(true);
  const canvas = h("canvas", {
    class: "heatmap",
    width: steps.length,
    height: named.length,
    role: "img",
    "aria-label": `${title} of ${named.length} parameters over ${steps.length} looks`,
  });
  const context = canvas.getContext("2d");
  cells.forEach((list, y) =>
    list.forEach(([x, v]) => {
      context.fillStyle = v > 0 ? color(v) : "#888";
      context.fillRect(x, y, 1, 1);
    }),
  );
  canvas.style.height = `${Math.max(120, Math.min(420, named.length * 9))}px`;
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * steps.length),
      y = Math.floor(((event.clientY - box.top) / box.height) * named.length);
    const found = cells[y]?.find((c) => c[0] === x);
    tip(event, found ? [named[y][0], `step ${whole(steps[x])}`, figure(found[1])] : null);
  });
  canvas.addEventListener("pointerleave", (event) => tip(event, null));
  const [low, high] = color.domain();
  const scale = h("span", { class: "scale" }, figure(low), h("i", { "aria-hidden": "true" }), figure(high));
  return h(
    "figure",
    { class: "small" },
    h("figcaption", {}, title, scale),
    canvas,
    h(
      "div",
      { class: "ends muted small" },
      h("span", {}, `step ${whole(steps[0])}`),
      h("span", {}, `step ${whole(steps.at(-1))}`),
    ),
  );
}
