// The canvas: the image, and the tracks on it, sharp at every zoom.

import { colour_of, HIDDEN, is_drawn, OUT_OF_VIEW, VISIBLE } from "./tracks.js";

const RADIUS = 5; // of a point, in CSS pixels
const SMALLEST_RADIUS = 2.5;
const SHARE_OF_GAP = 0.22; // radius of a point where points are dense, as a share of the distance between neighbours
const BORDER = 24; // CSS pixels from the edge within which what is to be seen is not seen well
const LABELLED_POINTS = 64; // more would hide the picture
const SMOOTH_BELOW = 3; // screen pixels per image pixel above which single pixels are shown as they are
const MOST_ZOOM = 64;
const OUTLINE = "rgb(12 13 15)";
const SHORTEST_TRAIL = 3; // CSS pixels
const FADES = [0.25, 0.45, 0.7, 1];

export class Picture {
  constructor(canvas, tracks) {
    this.canvas = canvas;
    this.tracks = tracks;
    this.context = canvas.getContext("2d", { alpha: true });
    this.bitmap = null;
    this.header = null;
    this.zoom = 1;
    this.centre = null; // of the view in image pixels; null is the image's centre
    this.selected = new Set();
    this.hovered = null;
    this.box = null; // being drawn: [x0, y0, x1, y1] in image pixels
    this.cross = null; // of the keyboard: [x, y] in image pixels
    this.asked = []; // points that were asked for and have not come yet
    this.shows = { trails: true, names: true, groups: false };
    this.drawing = false;
    this.undrawn = 0; // images that were shown and not drawn yet
    this.radius = RADIUS;
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  // Shows an image and its tracks. `drawn` is called when that is done, with the number of images that were shown since
  // it was called before: while the page is hidden, nothing is drawn.
  show(header, bitmap, drawn) {
    const other_size = this.header && (this.header.width !== header.width || this.header.height !== header.height);
    this.bitmap?.close();
    [this.header, this.bitmap] = [header, bitmap];
    if (other_size) this.fit();
    this.asked = this.asked.filter((point) => !this.tracks.find(point.id) && performance.now() < point.until);
    this.undrawn += 1;
    this.drawn = drawn;
    this.redraw();
  }

  forget() {
    this.bitmap?.close();
    [this.header, this.bitmap, this.asked] = [null, null, []];
    this.fit();
  }

  fit() {
    [this.zoom, this.centre] = [1, null];
    this.redraw();
  }

  // Zooms by a factor; what lies at (x, y), in CSS pixels of the canvas, stays there: the cross or the middle, if not told.
  zoom_at(factor, x, y) {
    if (!this.header) return;
    if (x === undefined) {
      const middle = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
      [x, y] = this.cross ? this.to_screen(...this.cross) : middle;
    }
    const [image_x, image_y] = this.to_image(x, y);
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), MOST_ZOOM);
    const view = this.#view();
    this.centre = [image_x + (this.canvas.clientWidth / 2 - x) / view.scale, image_y + (this.canvas.clientHeight / 2 - y) / view.scale];
    this.#keep_inside();
    this.redraw();
  }

  // Moves the image by CSS pixels.
  move(dx, dy) {
    if (!this.header || this.zoom === 1) return;
    const view = this.#view();
    this.centre = [view.centre[0] - dx / view.scale, view.centre[1] - dy / view.scale];
    this.#keep_inside();
    this.redraw();
  }

  // Moves the image so far that a pixel of it is seen.
  reveal(x, y) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [left, top] = this.to_screen(x, y);
    const beyond = (place, size) => Math.min(place - BORDER, 0) || Math.max(place - size + BORDER, 0);
    this.move(-beyond(left, width), -beyond(top, height));
    this.redraw();
  }

  // From CSS pixels of the canvas to pixels of the image, (0, 0) being the centre of its top-left pixel.
  to_image(x, y) {
    const view = this.#view();
    return [
      (x - this.canvas.clientWidth / 2) / view.scale + view.centre[0],
      (y - this.canvas.clientHeight / 2) / view.scale + view.centre[1],
    ];
  }

  to_screen(x, y) {
    const view = this.#view();
    return [
      (x - view.centre[0]) * view.scale + this.canvas.clientWidth / 2,
      (y - view.centre[1]) * view.scale + this.canvas.clientHeight / 2,
    ];
  }

  // CSS pixels per pixel of the image.
  get scale() {
    return this.#view().scale;
  }

  is_inside(x, y) {
    return Boolean(this.header) && x >= -0.5 && y >= -0.5 && x <= this.header.width - 0.5 && y <= this.header.height - 0.5;
  }

  redraw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.#draw();
      const count = this.undrawn;
      this.undrawn = 0;
      if (count) this.drawn(count);
    });
  }

  #view() {
    const { width, height } = this.header ?? { width: 1, height: 1 };
    const fitting = Math.min(this.canvas.clientWidth / width, this.canvas.clientHeight / height);
    return { scale: fitting * this.zoom || 1, centre: this.centre ?? [width / 2 - 0.5, height / 2 - 0.5] };
  }

  #keep_inside() {
    if (this.zoom === 1) this.centre = null;
    else this.centre = [clamp(this.centre[0], this.header.width), clamp(this.centre[1], this.header.height)];
  }

  #draw() {
    const { canvas, context } = this;
    const density = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * density), Math.round(canvas.clientHeight * density)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!this.bitmap) return;
    const scale = this.scale;
    const [left, top] = this.to_screen(-0.5, -0.5);
    context.imageSmoothingEnabled = scale * density < SMOOTH_BELOW;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, left, top, this.header.width * scale, this.header.height * scale);
    if (this.shows.trails) this.#draw_trails();
    const shown = this.tracks.points.filter(is_drawn);
    const gap = scale * Math.sqrt((this.header.width * this.header.height) / Math.max(shown.length, 1));
    this.radius = Math.min(Math.max(SHARE_OF_GAP * gap, SMALLEST_RADIUS), RADIUS);
    for (const point of shown) this.#draw_point(point);
    for (const point of this.asked) this.#ring(...this.to_screen(point.x, point.y), RADIUS + 3, "white", 1.5);
    if (this.shows.names && shown.length <= LABELLED_POINTS) this.#draw_names(shown);
    if (this.box) this.#draw_box();
    if (this.cross) this.#draw_cross();
  }

  #colour(point) {
    return colour_of(point, this.shows.groups);
  }

  #draw_trails() {
    const { context } = this;
    context.lineWidth = 1.75;
    context.lineJoin = "bevel"; // round joins cost more, and differ in nothing that is seen
    const { scale } = this;
    const [left, top] = this.to_screen(0, 0);
    for (const point of this.tracks.points) {
      const places = this.tracks.trails.get(point.id) ?? [];
      const trail = places.map((place) => place && [left + scale * place[0], top + scale * place[1]]);
      if (!trail.at(-1) || !has_moved(trail)) continue;
      context.strokeStyle = this.#colour(point);
      FADES.forEach((opacity, part) => {
        context.globalAlpha = opacity;
        context.beginPath();
        const first = Math.floor((part * (trail.length - 1)) / FADES.length);
        const last = Math.floor(((part + 1) * (trail.length - 1)) / FADES.length);
        let down = false;
        for (let place = first; place <= last; place += 1) {
          if (trail[place] && down) context.lineTo(...trail[place]);
          else if (trail[place]) context.moveTo(...trail[place]);
          down = Boolean(trail[place]);
        }
        context.stroke();
      });
    }
    context.globalAlpha = 1;
  }

  #draw_point(point) {
    const { context } = this;
    const [x, y] = this.to_screen(point.x, point.y);
    const selected = this.selected.has(point.id);
    const radius = this.radius + (selected || this.hovered === point.id ? 1.5 : 0);
    if (point.state === VISIBLE) {
      this.#disc(x, y, radius + 1.25, OUTLINE);
      this.#disc(x, y, radius, this.#colour(point));
    } else if (point.state === HIDDEN || point.state === OUT_OF_VIEW) {
      const thickness = (point.state === HIDDEN ? 0.45 : 0.25) * this.radius;
      this.#ring(x, y, radius - 0.5, OUTLINE, thickness + 2);
      this.#ring(x, y, radius - 0.5, this.#colour(point), thickness);
    }
    if (selected) {
      this.#ring(x, y, radius + 4, OUTLINE, 3.5);
      this.#ring(x, y, radius + 4, "white", 1.75);
    }
    context.globalAlpha = 1;
  }

  #draw_names(points) {
    const { context } = this;
    context.font = "600 11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = OUTLINE;
    context.fillStyle = "white";
    context.lineJoin = "round";
    for (const point of points) {
      const [x, y] = this.to_screen(point.x, point.y);
      context.strokeText(point.id, x + RADIUS + 5, y - RADIUS - 3);
      context.fillText(point.id, x + RADIUS + 5, y - RADIUS - 3);
    }
  }

  #draw_box() {
    const { context } = this;
    const [left, top] = this.to_screen(this.box[0], this.box[1]);
    const [right, bottom] = this.to_screen(this.box[2], this.box[3]);
    context.fillStyle = "rgb(255 255 255 / 12%)";
    context.fillRect(left, top, right - left, bottom - top);
    for (const [style, thickness] of [[OUTLINE, 3], ["white", 1.25]]) {
      [context.strokeStyle, context.lineWidth] = [style, thickness];
      context.strokeRect(left, top, right - left, bottom - top);
    }
  }

  #draw_cross() {
    const { context } = this;
    const [x, y] = this.to_screen(...this.cross);
    for (const [style, thickness] of [[OUTLINE, 3.5], ["white", 1.5]]) {
      [context.strokeStyle, context.lineWidth] = [style, thickness];
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 13 * dx, y + 13 * dy);
      }
      context.stroke();
    }
  }

  #disc(x, y, radius, style) {
    this.context.fillStyle = style;
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
    this.context.fill();
  }

  #ring(x, y, radius, style, thickness) {
    [this.context.strokeStyle, this.context.lineWidth] = [style, thickness];
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
    this.context.stroke();
  }
}

// Whether a trail is long enough to be seen: to draw those of many points that stand still would only cost time.
function has_moved(trail) {
  const [x, y] = trail.at(-1);
  return trail.some((place) => place && Math.abs(place[0] - x) + Math.abs(place[1] - y) > SHORTEST_TRAIL);
}

function clamp(value, size) {
  return Math.min(Math.max(value, -0.5), size - 0.5);
}
