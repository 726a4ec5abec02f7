// The connection to the server: says hello, hands over what comes, and comes back by itself when it is lost.

const FIRST_WAIT = 500; // milliseconds until the first new attempt
const LONGEST_WAIT = 5000;
const LOOK_PERIOD = 2000; // milliseconds between two looks whether the server is still heard
const LONGEST_SILENCE = 12000; // milliseconds; the server gives a sign of life every four seconds
const WRONG_TOKEN = 4401;
const TOO_MANY = 4429;
const TOKEN_KEY = "taptr-view-token";

export class Connection {
  // `handlers`: on_open(), on_lost(sentence), on_token_needed(was_wrong), on_message(object), on_frame(header, jpeg).
  constructor(handlers) {
    this.handlers = handlers;
    this.waiting = new Map();
    this.reopening = null;
    this.is_waiting_for_token = false;
    this.request = 0;
    this.wait = FIRST_WAIT;
    this.token = takeToken();
    this.heard_at = this.looked_at = performance.now();
    setInterval(() => this.#look(), LOOK_PERIOD);
    // Whoever comes back to the page, or to the network, need not wait.
    addEventListener("online", () => this.#open_now());
    document.addEventListener("visibilitychange", () => this.#open_now());
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.is_open = false;
    this.heard_at = performance.now();
    socket.onopen = () => socket.send(JSON.stringify({ do: "hello", token: this.token }));
    socket.onmessage = (event) => this.#take(event.data);
    socket.onclose = (event) => this.#lost(event.code, event.reason);
  }

  // Uses another token, which the person has typed.
  retry(token) {
    this.token = token;
    this.open();
  }

  // Asks the server for something; resolves to its answer, or rejects with a sentence.
  ask(command) {
    return new Promise((resolve, reject) => {
      if (this.socket?.readyState !== WebSocket.OPEN) {
        reject(new Error("There is no connection now."));
        return;
      }
      this.request += 1;
      this.waiting.set(this.request, { resolve, reject });
      this.socket.send(JSON.stringify({ ...command, request: this.request }));
    });
  }

  // Says that so many images were drawn, so that others may come.
  ready(count) {
    for (let sent = 0; sent < count && this.socket?.readyState === WebSocket.OPEN; sent += 1) this.socket.send('{"do":"ready"}');
  }

  #take(data) {
    this.heard_at = performance.now();
    if (typeof data !== "string") {
      const length = new DataView(data).getUint32(0, true);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      this.handlers.on_frame(header, new Uint8Array(data, 4 + length));
      return;
    }
    const message = JSON.parse(data);
    if (!this.is_open) {
      this.is_open = true;
      this.wait = FIRST_WAIT;
      keepToken(this.token);
      this.handlers.on_open();
    }
    if (message.is !== "answer") {
      this.handlers.on_message(message);
      return;
    }
    const asked = this.waiting.get(message.request);
    this.waiting.delete(message.request);
    if (!asked) return;
    if (message.refused && !message.ids) asked.reject(new Error(message.refused));
    else asked.resolve(message);
  }

  // A network that is gone, or a tunnel whose other end is, closes nothing: silence is all there is to notice.
  #look() {
    const now = performance.now();
    const was_asleep = now - this.looked_at > 2 * LOOK_PERIOD; // what came meanwhile is yet to be read
    this.looked_at = now;
    if (was_asleep || this.reopening || this.is_waiting_for_token || now - this.heard_at < LONGEST_SILENCE) return;
    this.socket.onclose = this.socket.onmessage = null;
    this.socket.close();
    this.#lost();
  }

  #open_now() {
    if (!this.reopening || document.hidden) return;
    clearTimeout(this.reopening);
    this.#reopen();
  }

  #reopen() {
    this.reopening = null;
    this.open();
  }

  #lost(code, reason) {
    for (const asked of this.waiting.values()) asked.reject(new Error("The connection was lost before an answer came."));
    this.waiting.clear();
    this.is_waiting_for_token = code === WRONG_TOKEN;
    if (this.is_waiting_for_token) {
      this.handlers.on_token_needed(this.token !== "");
      return;
    }
    this.handlers.on_lost(code === TOO_MANY ? reason : "The connection is lost. Trying again.");
    this.reopening = setTimeout(() => this.#reopen(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }
}

// Takes the token out of the address, so that it is not seen, copied or kept in the history.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    history.replaceState(null, "", location.pathname);
    return given;
  }
  return sessionStorage.getItem(TOKEN_KEY) ?? "";
}

function keepToken(token) {
  if (token && sessionStorage.getItem(TOKEN_KEY) !== token) sessionStorage.setItem(TOKEN_KEY, token);
}
