// Play, pause, one frame back and on, and the slider, for files and cameras.

import { element, set_text } from "./panel.js";

export class Playback {
  // `ask(command)` asks the server and returns a promise.
  constructor(ask) {
    this.ask = ask;
    this.status = null; // null unless a file or a camera is shown
    this.wanted = null; // the frame to go to next, while another one is on its way
    this.is_seeking = false;
    element("place").addEventListener("input", (event) => this.#seek(Number(event.target.value)));
    element("place").addEventListener("change", () => this.show_frame(this.status?.frame ?? 0));
  }

  show(status) {
    this.status = status.kind === "file" ? status : null;
    element("transport").hidden = !this.status;
    if (!this.status) return;
    set_text(element("play"), status.playing ? "Pause" : "Play");
    element("back").disabled = status.frame === 0;
    const place = element("place");
    place.max = Math.max(this.#count - 1, 1);
    // Only frames that were tracked can be shown: that part of the slider is marked.
    place.style.setProperty("--tracked", `${(100 * Math.max(status.tracked - 1, 0)) / place.max}%`);
    this.show_frame(status.frame);
  }

  show_frame(number) {
    const place = element("place");
    if (place.matches(":active")) return;
    place.value = number;
    this.#say(number);
  }

  play_or_pause() {
    if (this.status) this.ask({ do: this.status.playing ? "pause" : "play" });
  }

  go_back() {
    if (this.status?.frame > 0) this.ask({ do: "seek", frame: this.status.frame - 1 });
  }

  go_on() {
    if (!this.status) return;
    if (this.status.frame + 1 < this.status.tracked) this.ask({ do: "seek", frame: this.status.frame + 1 });
    else this.ask({ do: "step" });
  }

  // A file announces how many frames it has, and may have more.
  get #count() {
    return Math.max(this.status.frame_count ?? 0, this.status.tracked);
  }

  #say(number) {
    const words = `${number + 1} / ${this.#count}`;
    set_text(element("number"), words);
    element("place").setAttribute("aria-valuetext", `frame ${number + 1} of ${this.#count}`);
  }

  async #seek(frame) {
    const last = this.status.tracked - 1;
    this.wanted = Math.min(frame, last);
    if (frame > last) element("place").value = last;
    this.#say(this.wanted);
    if (this.is_seeking) return;
    this.is_seeking = true;
    while (this.wanted !== null) {
      const next = this.wanted;
      this.wanted = null;
      await this.ask({ do: "seek", frame: next });
    }
    this.is_seeking = false;
  }
}
