// What stands beside the image: numbers, parameters, the list of points.

import { colour_of, STATES } from "./tracks.js";

const LIST_PERIOD = 500; // milliseconds between two changes of the list of points
const LONG_RANGE = 1000; // a slider over more than this would be useless: it ends earlier, the number beside it does not

export function element(id) {
  return document.getElementById(id);
}

// Sets an element's text if it differs: screen readers would read it again, and a selection would be lost.
export function set_text(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// What is not known now keeps its row, so that nothing moves.
export function show_numbers(status) {
  const rows = [
    ["Rate", status.rate === null ? null : `${status.rate.toFixed(1)} images/s`],
    [status.kind === "file" ? "Time p50 / p95" : "Latency p50 / p95", times(status)],
    ["Not tracked", status.dropped === null ? null : `${status.dropped} ${status.dropped === 1 ? "image" : "images"}`],
    ["Points", status.points],
    ["Model", status.model],
    ["Runs on", [status.backend, status.device, status.precision].filter(Boolean).join(", ") || null],
  ];
  const list = element("numbers");
  const names = rows.map(([name]) => name).join();
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...rows.flatMap(([name]) => [make("dt", { textContent: name }), make("dd")]));
  }
  rows.forEach(([, value], row) => {
    set_text(list.children[2 * row + 1], String(value ?? "\u2013"));
  });
}

function times(status) {
  if (status.latency_p50 === null) return null;
  return `${milliseconds(status.latency_p50)} / ${milliseconds(status.latency_p95)} ms`;
}

function milliseconds(value) {
  return value.toFixed(value < 100 ? 1 : 0);
}

export class Parameters {
  // `set(name, value)` asks the tracker for another value and returns a promise.
  constructor(set) {
    this.set = set;
    this.fields = new Map();
  }

  show(parameters) {
    element("no-settings").hidden = parameters.length > 0;
    const names = parameters.map((parameter) => parameter.name).join();
    if (this.names !== names) {
      this.names = names;
      this.fields.clear();
      element("parameters").replaceChildren(...parameters.map((parameter) => this.#field(parameter)));
    }
    for (const { name, value } of parameters) {
      const field = this.fields.get(name);
      field.value = value;
      // What the person is changing now is left to the person.
      if (!field.inputs.includes(document.activeElement)) field.put(value);
    }
  }

  #field(parameter) {
    const { flag, default: usual } = parameter;
    parameter.description = `${parameter.description.replaceAll("`", "")} Default: ${flag ? (usual ? "on" : "off") : round(usual)}.`;
    return parameter.flag ? this.#check(parameter) : this.#slider(parameter);
  }

  #check({ name, description }) {
    const id = `parameter-${name}`;
    const check = make("input", { type: "checkbox", id });
    const field = { inputs: [], put: (value) => (check.checked = value !== 0) };
    check.addEventListener("change", async () => {
      const value = check.checked ? 1 : 0;
      if (await this.set(name, value)) field.value = value;
      else field.put(field.value);
    });
    return this.#block(name, field, check, [], description);
  }

  #slider(parameter) {
    const { name, description, limits, whole } = parameter;
    const [low, high] = limits;
    const slider_high = high - low > LONG_RANGE ? Math.min(high, Math.max(10 * parameter.default, 300)) : high;
    const step = whole ? 1 : nice_step(slider_high - low);
    const id = `parameter-${name}`;
    const number = make("input", { type: "number", id, min: low, max: high, step: whole ? 1 : "any" });
    const slider = make("input", { type: "range", min: low, max: slider_high, step });
    slider.setAttribute("aria-label", `${name}, slider`);
    const field = {
      inputs: [number, slider],
      put: (value) => {
        [number.value, slider.value] = [round(value), value];
      },
    };
    const change = async (input) => {
      const value = Number(input.value);
      if (input.value === "" || !Number.isFinite(value)) {
        field.put(field.value);
        return;
      }
      field.put(value);
      if (await this.set(name, value)) field.value = value;
      else field.put(field.value);
    };
    slider.addEventListener("input", () => (number.value = slider.value));
    slider.addEventListener("change", () => change(slider));
    number.addEventListener("change", () => change(number));
    return this.#block(name, field, number, [slider], description);
  }

  #block(name, field, input, more, description) {
    this.fields.set(name, field);
    const words = make("p", { id: `${input.id}-words`, textContent: description });
    input.setAttribute("aria-describedby", words.id);
    const head = make("div", { className: "name" });
    head.append(make("label", { htmlFor: input.id, textContent: name }), input);
    const block = make("div", { className: "parameter" });
    block.append(head, ...more, words);
    return block;
  }
}

export class PointTable {
  constructor(select) {
    this.select = select;
    this.shown_at = 0;
  }

  // Shows the points if the list is open, not more often than a person can read.
  show(points, selected, by_group) {
    const now = performance.now();
    if (!element("list").open || now - this.shown_at < LIST_PERIOD) return;
    this.shown_at = now;
    element("no-points").hidden = points.length > 0;
    document.querySelector("#list .scrolling").hidden = points.length === 0;
    const body = element("points");
    points.forEach((point, row) => this.#fill(body.rows[row] ?? body.append(this.#row()) ?? body.rows[row], point, selected, by_group));
    while (body.rows.length > points.length) body.rows[body.rows.length - 1].remove();
  }

  #row() {
    const row = make("tr");
    const button = make("button", { type: "button" });
    button.append(make("span", { className: "swatch" }), make("span"));
    button.addEventListener("click", (event) => this.select(row.dataset.id, event.shiftKey));
    const cell = make("td");
    cell.append(button);
    row.append(cell, make("td"), make("td"), make("td"));
    return row;
  }

  #fill(row, point, selected, by_group) {
    row.dataset.id = point.id;
    row.classList.toggle("selected", selected.has(point.id));
    const [swatch, name] = row.cells[0].firstChild.children;
    row.cells[0].firstChild.setAttribute("aria-pressed", selected.has(point.id));
    swatch.style.background = colour_of(point, by_group);
    name.textContent = point.id;
    row.cells[1].textContent = STATES[point.state];
    row.cells[2].textContent = percent(point.visibility);
    row.cells[3].textContent = percent(point.confidence);
  }
}

// What is said of a point beside it.
export function words_on(point) {
  const group = point.group ? `, group ${point.group}` : "";
  const place = `x ${point.x.toFixed(1)}, y ${point.y.toFixed(1)} px`;
  const certainty = `visibility ${percent(point.visibility)}, confidence ${percent(point.confidence)}`;
  return `Point ${point.id}${group}: ${STATES[point.state]}\n${certainty}\n${place}`;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function make(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

function nice_step(range) {
  return range <= 2 ? 0.005 : range <= 20 ? 0.05 : 0.5;
}

function round(value) {
  return Number(value.toPrecision(6));
}
