// Searching the graph: a field, and the list of what was found below it.

const MATCHES = 60; // that are listed

class Search {
  constructor(view) {
    this.view = view;
    this.list = h("ul", { class: "results", role: "listbox", id: "results", hidden: true });
    this.input = h("input", {
      type: "search",
      id: "search",
      placeholder: "Search: op, module, file:line, type",
      autocomplete: "off",
      spellcheck: "false",
      role: "combobox",
      "aria-label": "Search the graph",
      "aria-controls": "results",
      "aria-expanded": "false",
      oninput: () => this.find(this.input.value),
      onkeydown: (event) => this.key(event),
      onblur: () => setTimeout(() => this.close(), 150),
    });
    this.element = h("div", { class: "search" }, this.input, this.list);
  }

  /** Lists the nodes that have all the words, whether they are folded or not. */
  find(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return this.close();
    const found = PICTURES.get(this.view.stage).nodes.filter((n) => words.every((w) => n.words.includes(w)));
    const option = (n, i) =>
      h(
        "li",
        {
          role: "option",
          id: `result-${i}`,
          "data-id": n.id,
          "aria-selected": "false",
          onmousedown: (event) => {
            event.preventDefault();
            this.choose(n.id);
          },
        },
        h("strong", {}, n.kind === "param" ? n.id : n.label),
        h("span", {}, [n.scope, n.where, n.phase === "backward" && "backward"].filter(Boolean).join(" · ")),
      );
    const more = found.length > MATCHES && h("li", { class: "more" }, `${whole(found.length - MATCHES)} more`);
    this.list.replaceChildren(
      ...found.slice(0, MATCHES).map(option),
      ...(more ? [more] : []),
      ...(found.length ? [] : [h("li", { class: "more" }, "nothing of that name")]),
    );
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    announce(`${found.length} found`);
    this.chosen = -1;
    if (found.length) this.highlight(0);
  }

  highlight(at) {
    const options = [...this.list.querySelectorAll("[role=option]")];
    if (!options.length) return;
    this.chosen = (at + options.length) % options.length;
    options.forEach((o, i) => o.setAttribute("aria-selected", i === this.chosen));
    this.input.setAttribute("aria-activedescendant", options[this.chosen].id);
    options[this.chosen].scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !this.list.hidden) this.highlight(this.chosen + step);
    else if (event.key === "Enter" && !this.list.hidden && this.chosen >= 0)
      this.choose(this.list.querySelectorAll("[role=option]")[this.chosen].dataset.id);
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  async choose(id) {
    this.close();
    await this.view.reveal(id);
    this.view.focusItem(id);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
