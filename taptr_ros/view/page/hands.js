// Mouse, fingers and keys on the canvas.

const CLICK_DISTANCE = { mouse: 5, pen: 8, touch: 12 }; // CSS pixels that a pointer may move in a click
export const REACH = { mouse: 9, pen: 12, touch: 18 }; // CSS pixels within which a point is meant
const WHEEL_ZOOM = 0.0016;

export class Hands {
  // `act`: add(x, y, header), box(corners, header), select(id, also), hover(place), null for nowhere.
  constructor(picture, act) {
    this.picture = picture;
    this.act = act;
    this.pointers = new Map();
    this.start = null;
    const { canvas } = picture;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#cancel(event));
    canvas.addEventListener("pointerleave", () => this.act.hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#lift_cross());
  }

  #down(event) {
    const { picture } = this;
    if (!picture.header) return;
    picture.canvas.setPointerCapture(event.pointerId);
    const place = this.#place(event);
    this.pointers.set(event.pointerId, place);
    this.#lift_cross();
    if (this.pointers.size > 1) {
      // Two fingers zoom and move: what the first one has begun is off.
      this.start = picture.box = null;
      return;
    }
    const [x, y] = picture.to_image(...place);
    // The image of this moment is the one that the person sees and means, whatever comes while the button is down.
    this.start = {
      x,
      y,
      at: place,
      header: picture.header,
      point: this.#point_at(x, y, event.pointerType),
      moves: event.button !== 0,
      dragged: false,
    };
    if (this.start.moves) picture.canvas.classList.add("moving");
  }

  #move(event) {
    const { picture, start } = this;
    const place = this.#place(event);
    const before = this.pointers.get(event.pointerId);
    if (this.pointers.size === 2 && before) {
      this.#pinch(event.pointerId, place);
      return;
    }
    if (!start || !before) {
      this.act.hover(event.pointerType === "touch" ? null : place);
      return;
    }
    this.pointers.set(event.pointerId, place);
    if (start.moves) {
      picture.move(place[0] - before[0], place[1] - before[1]);
      return;
    }
    const still = CLICK_DISTANCE[event.pointerType] ?? CLICK_DISTANCE.mouse;
    start.dragged ||= Math.hypot(place[0] - start.at[0], place[1] - start.at[1]) > still;
    if (start.dragged) {
      this.act.hover(null);
      picture.box = this.#corners(start, picture.to_image(...place));
      picture.redraw();
    }
  }

  #up(event) {
    const { picture, start } = this;
    this.pointers.delete(event.pointerId);
    picture.canvas.classList.remove("moving");
    this.start = picture.box = null;
    picture.redraw();
    if (!start || start.moves) return;
    if (start.dragged) {
      const corners = this.#corners(start, picture.to_image(...this.#place(event)));
      if (corners[2] > corners[0] && corners[3] > corners[1]) this.act.box(corners, start.header);
      return;
    }
    if (start.point) this.act.select(start.point.id, event.shiftKey);
    else if (picture.is_inside(start.x, start.y)) this.act.add(start.x, start.y, start.header);
  }

  #cancel(event) {
    this.pointers.delete(event.pointerId);
    this.give_up();
  }

  // Forgets the box that is being drawn; returns whether there was one.
  give_up() {
    const was_drawing = Boolean(this.picture.box);
    this.start = this.picture.box = null;
    this.picture.redraw();
    return was_drawing;
  }

  #pinch(id, place) {
    const [first, second] = [...this.pointers.values()];
    const gap = Math.hypot(first[0] - second[0], first[1] - second[1]);
    const middle = [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2];
    this.pointers.set(id, place);
    const [third, fourth] = [...this.pointers.values()];
    const new_middle = [(third[0] + fourth[0]) / 2, (third[1] + fourth[1]) / 2];
    const new_gap = Math.hypot(third[0] - fourth[0], third[1] - fourth[1]);
    if (gap > 0) this.picture.zoom_at(new_gap / gap, ...middle);
    this.picture.move(new_middle[0] - middle[0], new_middle[1] - middle[1]);
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    this.picture.zoom_at(Math.exp(-event.deltaY * lines * WHEEL_ZOOM), ...this.#place(event));
  }

  #key(event) {
    const { picture } = this;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!picture.header || event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = picture.header;
    if (steps) {
      event.preventDefault();
      const [x, y] = picture.cross ?? [Math.floor(width / 2), Math.floor(height / 2)];
      const stride = picture.cross ? (event.shiftKey ? 10 : 1) : 0;
      picture.cross = [limit(x + stride * steps[0], width), limit(y + stride * steps[1], height)];
      picture.reveal(...picture.cross);
    } else if (event.key === "Enter" && picture.cross) {
      event.preventDefault();
      const point = this.#point_at(...picture.cross, "mouse");
      if (point) this.act.select(point.id, event.shiftKey);
      else this.act.add(...picture.cross, picture.header);
    }
  }

  #lift_cross() {
    this.picture.cross = null;
    this.picture.redraw();
  }

  // Where an event is, in CSS pixels of the canvas. Its offsetX and offsetY are whole numbers in some browsers.
  #place(event) {
    const { left, top } = this.picture.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  #point_at(x, y, pointer) {
    return this.picture.tracks.nearest(x, y, (REACH[pointer] ?? REACH.mouse) / this.picture.scale);
  }

  #corners(start, [x, y]) {
    const { width, height } = start.header;
    const inside = (value, size) => Math.min(Math.max(value, -0.5), size - 0.5);
    return [
      inside(Math.min(start.x, x), width),
      inside(Math.min(start.y, y), height),
      inside(Math.max(start.x, x), width),
      inside(Math.max(start.y, y), height),
    ];
  }
}

function limit(value, size) {
  return Math.min(Math.max(value, 0), size - 1);
}
