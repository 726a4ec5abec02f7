// The tracks in the image that is shown, their trails and their colours.

export const STATES = ["visible", "hidden", "out of view", "lost"];
export const [VISIBLE, HIDDEN, OUT_OF_VIEW, LOST] = [0, 1, 2, 3];
const TRAIL_FRAMES = 24;
const GOLDEN_RATIO = 0.6180339887;

// A bright colour; the golden ratio keeps the hues of neighbouring numbers far apart. The same as in overlay videos.
function colour(number) {
  const hue = 360 * ((0.03 + (number % 1e6) * GOLDEN_RATIO) % 1);
  return `hsl(${hue.toFixed(1)} 100% 64%)`;
}

// The colour of a point: of its group, if that is wanted and it has one.
export function colour_of(point, by_group) {
  return colour(by_group && point.group ? point.group : Number(point.id));
}

export class TrackList {
  constructor() {
    this.clear();
  }

  clear() {
    this.points = [];
    this.trails = new Map();
    this.stamp = null;
    this.stream = null;
    this.number = null;
    this.has_groups = false;
  }

  // Takes the tracks of another image, by its header.
  take(header) {
    const stamp = BigInt(header.stamp);
    if (!header.tracks) {
      this.clear();
      return;
    }
    if (header.past) {
      this.trails.clear();
      for (const earlier of header.past) if (earlier.stream === header.tracks.stream) this.#extend(earlier);
    } else if (this.#is_elsewhere(header, stamp)) {
      this.trails.clear();
    }
    const is_same_image = !header.past && this.stamp === stamp;
    this.#extend(header.tracks, is_same_image);
    this.points = rows(header.tracks);
    this.has_groups = header.tracks.group.some(Boolean);
    [this.stamp, this.stream, this.number] = [stamp, header.tracks.stream, header.number];
  }

  find(id) {
    return this.points.find((point) => point.id === id);
  }

  // The nearest point that is drawn, within a distance in image pixels.
  nearest(x, y, distance) {
    let best = null;
    for (const point of this.points) {
      const away = Math.hypot(point.x - x, point.y - y);
      if (is_drawn(point) && away <= distance) [best, distance] = [point, away];
    }
    return best;
  }

  #is_elsewhere(header, stamp) {
    if (this.stream !== header.tracks.stream || this.stamp === null || stamp < this.stamp) return true;
    return header.number !== null && this.number !== null && header.number - this.number > TRAIL_FRAMES;
  }

  #extend(columns, is_same_image = false) {
    const trails = new Map();
    for (const point of rows(columns)) {
      const trail = this.trails.get(point.id) ?? [];
      if (is_same_image) trail.pop();
      const is_located = point.state === VISIBLE || point.state === HIDDEN;
      trail.push(is_located ? [point.x, point.y] : null);
      if (trail.length > TRAIL_FRAMES + 1) trail.shift();
      trails.set(point.id, trail);
    }
    this.trails = trails;
  }
}

export function is_drawn(point) {
  return point.state !== LOST;
}

function rows(columns) {
  return columns.id.map((id, row) => ({
    id,
    x: columns.x[row],
    y: columns.y[row],
    state: columns.state[row],
    visibility: columns.visibility[row],
    confidence: columns.confidence[row],
    group: columns.group[row], // 0 is none
  }));
}
