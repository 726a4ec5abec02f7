// Puts the parts of the page together.

import { Connection } from "./connection.js";
import { Hands } from "./hands.js";
import { element, Parameters, percent, PointTable, show_numbers } from "./panel.js";
import { Picture } from "./picture.js";
import { STATES, TrackList } from "./tracks.js";

const TOLD_FOR = 5000; // milliseconds for which an answer stays
const WAIT_FOR_POINT = 3000; // milliseconds for which a ring marks where a point was asked for

const tracks = new TrackList();
const picture = new Picture(element("picture"), tracks);
const parameters = new Parameters((name, value) => ask({ do: "set", name, value }));
const table = new PointTable(select);
let status = { kind: "live", sentence: "" };
let pointer = null; // where the mouse is, in CSS pixels of the canvas
let decoding = Promise.resolve();

const connection = new Connection({
  on_state(text, is_on) {
    const place = element("connection");
    if (place.textContent !== text) place.textContent = text;
    place.className = is_on ? "on" : "off";
    if (!is_on) show_sentence(text === "Connection lost" ? "The connection to the view is lost. It is tried again." : "");
  },
  on_token_needed(was_wrong) {
    element("asking-text").textContent = was_wrong
      ? "That token is wrong. The right one was printed where the view was started."
      : "It was printed where the view was started.";
    if (!element("asking").open) element("asking").showModal();
  },
  on_message(message) {
    if (message.is === "status") take_status(message);
    else if (message.is === "parameters") parameters.show(message.parameters);
  },
  on_frame(header, jpeg) {
    // One after the other, so that a small image never overtakes a large one before it.
    decoding = decoding.then(() => take_frame(header, jpeg));
  },
});

async function take_frame(header, jpeg) {
  try {
    const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    tracks.take(header);
    for (const id of picture.selected) if (!tracks.find(id)) picture.selected.delete(id);
    picture.show(header, bitmap, () => connection.ready());
    show_selection();
    show_sentence();
    if (pointer) hover(tracks.nearest(...picture.to_image(...pointer), 9 / picture.scale), ...pointer);
    show_table();
    element("by-group").hidden = !tracks.has_groups;
    if (header.number !== null) show_place(header.number);
    element("picture").dataset.stamp = header.stamp;
  } catch {
    connection.ready(); // an image that cannot be drawn must not keep the next ones back
  }
}

function take_status(message) {
  if (status.session !== undefined && status.session !== message.session) {
    tracks.clear();
    picture.selected.clear();
    picture.forget();
  }
  status = message;
  show_numbers(message);
  show_choice(message);
  const is_file = message.kind === "file";
  element("transport").hidden = element("saving").hidden = !is_file;
  if (is_file) {
    element("play").textContent = message.playing ? "Pause" : "Play";
    element("back").disabled = message.frame === 0;
    const place = element("place");
    place.max = Math.max(message.tracked - 1, 0);
    show_place(message.frame);
  }
  show_sentence();
}

function show_choice({ sessions, session, kind }) {
  const choice = element("session");
  element("choice").hidden = sessions.length < 2;
  element("source").textContent = sessions.length < 2 ? (sessions[0] ?? "") : "";
  document.title = session ? `${session} - taptr view` : "taptr view";
  if (choice.dataset.names !== sessions.join("\n")) {
    choice.dataset.names = sessions.join("\n");
    choice.replaceChildren(...sessions.map((name) => new Option(name, name)));
  }
  choice.value = session;
}

function show_place(number) {
  const place = element("place");
  if (place.matches(":active")) return;
  place.value = number;
  const total = status.frame_count ?? status.tracked ?? 0;
  element("number").textContent = `${number + 1} / ${Math.max(total, status.tracked ?? 0)}`;
}

// Shows what a person must know now; on an empty stage large and in the middle.
function show_sentence(lost = "") {
  const is_on = element("connection").className !== "off";
  const hint = status.kind === "file" && !picture.asked.length && !tracks.points.length && picture.header && status.tracked <= 1
    ? "Click on what you want to follow, then press Play." : "";
  const text = is_on ? status.busy || status.sentence || hint : lost || element("sentence").textContent;
  const place = element("sentence");
  place.hidden = text === "";
  place.classList.toggle("alone", !picture.header);
  if (place.textContent !== text) place.textContent = text;
}

let told_until = 0;
function tell(text, refused = false) {
  const place = element("told");
  place.textContent = text;
  place.classList.toggle("refused", refused);
  place.hidden = !text;
  const until = performance.now() + TOLD_FOR;
  told_until = until;
  setTimeout(() => {
    if (told_until === until) place.hidden = true;
  }, TOLD_FOR);
}

// Asks for something and tells the person what came of it; resolves to the answer, or null if it was refused.
async function ask(command) {
  try {
    const answer = await connection.ask(command);
    if (answer.text || answer.refused) tell(answer.text || answer.refused, Boolean(answer.refused));
    return answer;
  } catch (error) {
    tell(error.message, true);
    return null;
  }
}

// Points.

async function add(x, y, header) {
  select(null);
  const point = { x, y, id: null, until: performance.now() + WAIT_FOR_POINT };
  picture.asked.push(point);
  picture.redraw();
  const answer = await ask({ do: "add", points: [[x, y]], stamp: header.stamp });
  if (answer?.ids?.[0]) point.id = answer.ids[0];
  if (!answer || tracks.find(point.id)) picture.asked = picture.asked.filter((other) => other !== point);
  picture.redraw();
}

function add_box(box, header) {
  ask({ do: "add_box", stamp: header.stamp, box });
}

function add_grid() {
  const side = Math.min(Math.max(Math.round(Number(element("side").value)) || 8, 1), 64);
  element("side").value = side;
  if (picture.header) ask({ do: "add_grid", side, stamp: picture.header.stamp });
}

function select(id, also = false) {
  if (!also) picture.selected.clear();
  if (id !== null) {
    if (also && picture.selected.has(id)) picture.selected.delete(id);
    else picture.selected.add(id);
  }
  show_selection();
  table.shown_at = 0;
  show_table();
  picture.redraw();
}

function show_table() {
  table.show(tracks.points, picture.selected, picture.shows.groups);
}

function select_next(direction) {
  if (!tracks.points.length) return;
  const ids = tracks.points.map((point) => point.id);
  const place = ids.indexOf([...picture.selected].at(-1));
  const next = place < 0 ? (direction > 0 ? 0 : ids.length - 1) : (place + direction + ids.length) % ids.length;
  select(ids[next]);
  tell(words_on(tracks.points[next]));
}

function show_selection() {
  const count = picture.selected.size;
  const button = element("remove");
  button.disabled = count === 0;
  const text = count > 1 ? `Delete ${count}` : "Delete";
  if (button.textContent !== text) button.textContent = text;
}

function remove_selected() {
  if (picture.selected.size) ask({ do: "remove", ids: [...picture.selected] });
  picture.selected.clear();
  show_selection();
}

function words_on(point) {
  const group = point.group ? `, group ${point.group}` : "";
  return `Point ${point.id}${group}: ${STATES[point.state]}\nvisible ${percent(point.visibility)}, close ${percent(point.confidence)}`;
}

function hover(point, x, y) {
  pointer = x === undefined ? null : [x, y];
  const tip = element("tip");
  picture.hovered = point?.id ?? null;
  element("picture").classList.toggle("over", Boolean(point));
  tip.hidden = !point;
  if (!point) return;
  tip.textContent = words_on(point);
  const [left, top] = picture.to_screen(point.x, point.y);
  const { clientWidth: width, clientHeight: height } = element("stage");
  tip.style.left = `${Math.max(4, Math.min(left + 14, width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(top + 14, height - tip.offsetHeight - 4))}px`;
}

new Hands(picture, { add, box: add_box, select, hover });

// Playback.

function play_or_pause() {
  if (status.kind === "file") ask({ do: status.playing ? "pause" : "play" });
}

function go_back() {
  if (status.kind === "file" && status.frame > 0) ask({ do: "seek", frame: status.frame - 1 });
}

function go_on() {
  if (status.kind !== "file") return;
  if (status.frame + 1 < status.tracked) ask({ do: "seek", frame: status.frame + 1 });
  else ask({ do: "step" });
}

let seeking = null; // the frame to go to next, while another one is on its way
let is_seeking = false;
async function seek(frame) {
  seeking = frame;
  if (is_seeking) return;
  is_seeking = true;
  while (seeking !== null) {
    const next = seeking;
    seeking = null;
    await ask({ do: "seek", frame: next });
  }
  is_seeking = false;
}

// Buttons, keys and the rest.

const buttons = {
  play: play_or_pause,
  back: go_back,
  step: go_on,
  grid: add_grid,
  remove: remove_selected,
  clear: () => ask({ do: "clear" }),
  reset: () => ask({ do: "reset" }),
  smaller: () => picture.zoom_at(1 / 1.5),
  larger: () => picture.zoom_at(1.5),
  fit: () => picture.fit(),
};
for (const [id, act] of Object.entries(buttons)) element(id).addEventListener("click", act);
element("list").addEventListener("toggle", show_table);
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    await ask({ do: "save", what: button.dataset.save });
    button.disabled = false;
  });
}
element("place").addEventListener("input", (event) => seek(Number(event.target.value)));
element("session").addEventListener("change", (event) => ask({ do: "choose", name: event.target.value }));
for (const name of ["trails", "names", "groups"]) {
  element(name).addEventListener("change", (event) => {
    picture.shows[name] = event.target.checked;
    picture.redraw();
  });
}
element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  element("asking").close();
  connection.retry(element("token").value.trim());
});

const keys = {
  " ": play_or_pause,
  ",": go_back,
  ".": go_on,
  "[": () => select_next(-1),
  "]": () => select_next(1),
  Delete: remove_selected,
  Backspace: remove_selected,
  Escape: () => select(null),
  "+": buttons.larger,
  "-": buttons.smaller,
  0: buttons.fit,
};
document.addEventListener("keydown", (event) => {
  const is_typing = event.target.matches("input, select, button, summary");
  if (is_typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});

connection.open();
