// Puts the parts of the page together.

import { Connection } from "./connection.js";
import { Hands, REACH } from "./hands.js";
import { element, Parameters, PointTable, set_text, show_numbers, words_on } from "./panel.js";
import { Picture } from "./picture.js";
import { Playback } from "./playback.js";
import { TrackList } from "./tracks.js";

const TOLD_FOR = 5000; // milliseconds for which an answer stays
const REFUSED_FOR = 10000; // and one that says why something was not done
const WAIT_FOR_POINT = 3000; // milliseconds for which a ring marks where a point was asked for

const tracks = new TrackList();
const picture = new Picture(element("picture"), tracks);
const playback = new Playback(ask);
const parameters = new Parameters((name, value) => ask({ do: "set", name, value }));
const table = new PointTable(select);
const hands = new Hands(picture, { add, box: add_box, select, hover });
let status = { kind: "live", sentence: "" };
let chosen = null; // the tracker that the person has chosen from the list
let lost = "Connecting."; // what keeps the server away; empty while it is there
let pointer = null; // where the mouse is, in CSS pixels of the canvas
let decoding = Promise.resolve();

const connection = new Connection({
  on_open: () => show_connection("Connected", ""),
  on_lost: (sentence) => show_connection("Not connected", sentence),
  on_token_needed(was_wrong) {
    show_connection("Token needed", "");
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
    picture.show(header, bitmap, (count) => connection.ready(count));
    show_selection();
    show_sentence();
    show_tip();
    show_table();
    element("by-group").hidden = !tracks.has_groups;
    if (header.number !== null) playback.show_frame(header.number);
    element("picture").dataset.stamp = header.stamp;
  } catch {
    connection.ready(1); // an image that cannot be drawn must not keep the next ones back
  }
}

function take_status(message) {
  if (status.session !== undefined && status.session !== message.session) {
    tracks.clear();
    picture.selected.clear();
    picture.forget();
    offer_undo(false);
  }
  status = message;
  show_numbers(message);
  show_choice(message);
  playback.show(message);
  element("saving").hidden = message.kind !== "file";
  show_sentence();
}

// Shows which tracker it is; after the connection was lost, the one that the person had chosen is chosen again.
function show_choice({ sessions, session, kind }) {
  if (chosen !== null && chosen !== session && sessions.includes(chosen)) ask({ do: "choose", name: chosen });
  const choice = element("session");
  const name = kind === "file" ? session.split("/").at(-1) : session;
  element("choice").hidden = sessions.length < 2;
  const source = element("source");
  set_text(source, sessions.length < 2 ? name : "");
  source.title = session;
  document.title = session ? `${name} - taptr view` : "taptr view";
  if (choice.dataset.names !== sessions.join("\n")) {
    choice.dataset.names = sessions.join("\n");
    choice.replaceChildren(...sessions.map((each) => new Option(each, each)));
  }
  choice.value = session;
}

function show_connection(text, sentence) {
  lost = sentence;
  const place = element("connection");
  set_text(place, text);
  place.className = text === "Connected" ? "on" : "off";
  element("stage").classList.toggle("stale", lost !== "");
  show_sentence();
}

// Shows what a person must know now; on an empty stage large and in the middle.
function show_sentence() {
  const text = lost || status.busy || status.sentence || hint();
  const place = element("sentence");
  place.hidden = text === "";
  place.classList.toggle("alone", !picture.header);
  set_text(place, text);
}

// What to do first.
function hint() {
  if (!picture.header || picture.asked.length || tracks.points.length) return "";
  if (status.kind !== "file") return "Click on what you want to follow.";
  return status.tracked <= 1 ? "Click on what you want to follow, then press Play." : "";
}

let told_until = 0;
function tell(text, refused = false) {
  const place = element("told");
  place.textContent = text;
  place.classList.toggle("refused", refused);
  place.hidden = !text;
  const period = refused ? REFUSED_FOR : TOLD_FOR;
  const until = performance.now() + period;
  told_until = until;
  setTimeout(() => {
    if (told_until === until) place.hidden = true;
  }, period);
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
  else tell("There is no image yet.", true);
}

function select(id, also = false) {
  if (!also) picture.selected.clear();
  if (id !== null) {
    if (also && picture.selected.has(id)) picture.selected.delete(id);
    else picture.selected.add(id);
  }
  show_selection();
  show_tip();
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
  const point = tracks.points[next];
  picture.reveal(point.x, point.y);
  select(point.id);
  set_text(element("spoken"), words_on(point));
}

function show_selection() {
  const count = picture.selected.size;
  element("remove").disabled = count === 0;
  set_text(element("remove"), count > 1 ? `Delete ${count}` : "Delete");
}

async function remove_selected() {
  const ids = [...picture.selected];
  select(null);
  if (ids.length && (await ask({ do: "remove", ids }))) offer_undo(true);
}

async function clear() {
  const had_points = tracks.points.length > 0;
  if ((await ask({ do: "clear" })) && had_points) offer_undo(true);
}

async function reset() {
  if (await ask({ do: "reset" })) offer_undo(false);
}

async function undo() {
  if (element("undo").disabled) return;
  offer_undo(false);
  await ask({ do: "undo" });
}

function offer_undo(is_offered) {
  element("undo").disabled = !is_offered;
}

function hover(place) {
  pointer = place;
  show_tip();
  picture.redraw();
}

// Tells of the point under the mouse, or else of the selected one.
function show_tip() {
  const hovered = pointer && tracks.nearest(...picture.to_image(...pointer), REACH.mouse / picture.scale);
  picture.hovered = hovered?.id ?? null;
  element("picture").classList.toggle("over", Boolean(hovered));
  const point = hovered || (picture.selected.size === 1 && tracks.find([...picture.selected][0]));
  const tip = element("tip");
  const [left, top] = point ? picture.to_screen(point.x, point.y) : [-1, -1];
  const { clientWidth: width, clientHeight: height } = element("stage");
  tip.hidden = !point || left < 0 || top < 0 || left > width || top > height;
  if (tip.hidden) return;
  set_text(tip, words_on(point));
  tip.style.left = `${Math.max(4, Math.min(left + 14, width - tip.offsetWidth - 4))}px`;
  const below = top + 14 + tip.offsetHeight < height;
  tip.style.top = `${Math.max(4, below ? top + 14 : top - 14 - tip.offsetHeight)}px`;
}

// Buttons, keys and the rest.

const buttons = {
  play: () => playback.play_or_pause(),
  back: () => playback.go_back(),
  step: () => playback.go_on(),
  grid: add_grid,
  remove: remove_selected,
  clear,
  undo,
  reset,
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
element("session").addEventListener("change", (event) => {
  chosen = event.target.value;
  ask({ do: "choose", name: chosen });
});
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
  " ": buttons.play,
  ",": buttons.back,
  ".": buttons.step,
  "[": () => select_next(-1),
  "]": () => select_next(1),
  Delete: remove_selected,
  Backspace: remove_selected,
  Escape: () => hands.give_up() || select(null),
  u: undo,
  "+": buttons.larger,
  "-": buttons.smaller,
  0: buttons.fit,
};
document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  const is_typing = target.matches("select, input:not([type=checkbox], [type=range])");
  const is_pressing = key === " " && target.matches("button, summary, input");
  const is_elsewhere = element("asking").open || event.ctrlKey || event.metaKey || event.altKey;
  if (is_typing || is_pressing || is_elsewhere || !(key in keys)) return;
  event.preventDefault();
  keys[key]();
});

connection.open();
