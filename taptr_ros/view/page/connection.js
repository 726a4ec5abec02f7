// The connection to the server: says hello, hands over what comes, and comes back by itself when it is lost.

const FIRST_WAIT = 500; // milliseconds until the first new attempt
const LONGEST_WAIT = 5000;
const WRONG_TOKEN = 4401;
const TOKEN_KEY = "taptr-view-token";

export class Connection {
  // `handlers`: on_state(text, is_on), on_token_needed(was_wrong), on_message(object), on_frame(header, jpeg).
  constructor(handlers) {
    this.handlers = handlers;
    this.waiting = new Map();
    this.request = 0;
    this.wait = FIRST_WAIT;
    this.token = takeToken();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ do: "hello", token: this.token }));
    socket.onmessage = (event) => this.#take(event.data);
    socket.onclose = (event) => this.#lost(event);
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

  // Says that an image was drawn, so that another one may come.
  ready() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send('{"do":"ready"}');
  }

  #take(data) {
    if (typeof data !== "string") {
      const length = new DataView(data).getUint32(0, true);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      this.handlers.on_frame(header, new Uint8Array(data, 4 + length));
      return;
    }
    const message = JSON.parse(data);
    if (message.is !== "answer") {
      this.wait = FIRST_WAIT;
      keepToken(this.token);
      this.handlers.on_state("Connected", true);
      this.handlers.on_message(message);
      return;
    }
    const asked = this.waiting.get(message.request);
    this.waiting.delete(message.request);
    if (!asked) return;
    if (message.refused && !message.ids) asked.reject(new Error(message.refused));
    else asked.resolve(message);
  }

  #lost(event) {
    for (const asked of this.waiting.values()) asked.reject(new Error("The connection was lost before an answer came."));
    this.waiting.clear();
    if (event.code === WRONG_TOKEN) {
      this.handlers.on_state("Token needed", false);
      this.handlers.on_token_needed(this.token !== "");
      return;
    }
    this.handlers.on_state("Connection lost", false);
    setTimeout(() => this.open(), this.wait);
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
