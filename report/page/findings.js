// The findings of the lint, each with the lines it is about.

function findingsSection() {
  const cards = DATA.findings.map((f) =>
    h(
      "article",
      { class: `finding ${f.severity}` },
      h(
        "header",
        {},
        h("span", { class: `severity ${f.severity}` }, f.severity),
        h("code", {}, f.code),
        f.line > 0 && place(f.file, f.line),
        f.scope && h("span", { class: "muted" }, f.scope),
      ),
      h("h3", {}, f.message),
      f.line > 0 && excerpt(f.file, f.line, 3),
      f.escape &&
        (f.escape.file !== f.file || f.escape.line !== f.line) && [
          h("p", { class: "small" }, "left the program at ", place(f.escape.file, f.escape.line)),
          excerpt(f.escape.file, f.escape.line, 1),
        ],
      rows(
        f.why && row("because", f.why),
        f.fix && row("write", h("code", {}, f.fix)),
        f.parameters.length > 0 && row("concerns", concerned(f.parameters)),
      ),
      f.page && folded(`What ${f.code} means`, code(f.page)),
    ),
  );
  const lead = DATA.findings.length
    ? ""
    : DATA.overview.ok === null
      ? "This program was not linted."
      : "Nothing was found.";
  return section(
    "findings",
    "Findings",
    lead,
    h("div", { class: "findings" }, cards),
    DATA.notes.map((note) => h("p", { class: "muted small" }, note)),
  );
}

function concerned(paths) {
  const list = (some) => some.flatMap((path, i) => (i ? [", ", parameterLink(path)] : [parameterLink(path)]));
  return paths.length <= 8
    ? list(paths)
    : [list(paths.slice(0, 6)), folded(`and ${paths.length - 6} more`, list(paths.slice(6)))];
}
