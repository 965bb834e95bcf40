// Particles on axes, with trails, a density and rows of the data.

const TRAIL = 0.2;      // time that trails last
const TRAILS = 300;     // particles that have one
const GRID = 72;        // cells of the histogram along a side
const HUES = 24;        // colours by start

/** Integers of 16 bits, the lower byte first. */
function integers(text) {
  const bytes = atob(text);
  const found = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < found.length; i++)
    found[i] = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
  return found;
}

/** Round numbers within a range, and how they are written. */
function ticks(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(m => m * power >= raw);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const far = Math.max(Math.abs(low), Math.abs(high));
  const digits = Math.max(0, Math.floor(Math.log10(far)) + decimals);
  const write = v => far >= 1e5 || decimals > 4 ? v.toExponential(clamp(digits, 0, 3)) : v.toFixed(decimals);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++)
    found.push([i * step, write(i === 0 ? 0 : i * step).replace("-", "\u2212")]);
  return found;
}

class Points {
  constructor(film, canvas, choice) {
    Object.assign(this, { film, canvas, choice });
    this.states = film.states.map(integers);
    this.data = film.data.map(integers);
    this.cells = document.createElement("canvas");
    this.cells.width = this.cells.height = GRID;
  }

  get columns() {
    const { across, up } = this.choice;
    return [across ? Number(across.value) : 0, up ? Number(up.value) : 1];
  }

  value(column, integer) {
    const [low, high] = this.film.ranges[column];
    return low + (high - low) * integer / 65535;
  }

  /** Positions of all particles along a column at time t, between two stored times on a straight line. */
  at(column, t, count = this.film.count) {
    const [k, w] = place(this.film.times, t), n = this.film.count, all = this.states[column];
    const found = new Float64Array(Math.min(count, n));
    for (let i = 0; i < found.length; i++)
      found[i] = this.value(column, (1 - w) * all[k * n + i] + w * all[(k + 1) * n + i]);
    return found;
  }

  positions(t) {
    const [x, y] = this.columns.map(column => this.at(column, t));
    return Array.from(x, (value, i) => [value, y[i]]);
  }

  /** Height over width: one scale for both axes if that makes no strip. */
  ratio() {
    const [x, y] = this.columns.map(column => this.film.views[column]);
    const ratio = (y[1] - y[0]) / (x[1] - x[0]);
    return ratio > 0.3 && ratio < 1.5 ? Math.min(ratio, 1.1) : 0.75;
  }

  views(wide, high) {
    const views = this.columns.map(column => this.film.views[column].slice());
    const spans = views.map(([low, high]) => high - low), ratio = spans[1] / spans[0];
    if (ratio > 0.3 && ratio < 1.5) {   // equal scales: the axis with room to spare shows more
      const per = Math.max(spans[0] / wide, spans[1] / high);
      [wide, high].forEach((pixels, i) => {
        const more = (per * pixels - spans[i]) / 2;
        views[i] = [views[i][0] - more, views[i][1] + more];
      });
    }
    return views;
  }

  draw(pen, width, t, colour) {
    const font = getComputedStyle(this.canvas).fontFamily, bottom = 46, top = 8, right = 8;
    pen.font = `12px ${font}`;
    let left = 64;
    const high = this.height(width) - top - bottom;
    let views = this.views(width - left - right, high);
    const marks = ticks(...views[1], Math.max(3, high / 42));
    left = 34 + Math.max(...marks.map(([, text]) => pen.measureText(text).width));
    const wide = width - left - right;
    views = this.views(wide, high);
    const box = { left, top, wide, high, views };
    const across = x => left + wide * (x - views[0][0]) / (views[0][1] - views[0][0]);
    const up = y => top + high * (views[1][1] - y) / (views[1][1] - views[1][0]);
    this.axes(pen, box, across, up, colour);
    pen.save();
    pen.beginPath();
    pen.rect(left, top, wide, high);
    pen.clip();
    const [a, b] = this.columns, x = this.at(a, t), y = this.at(b, t);
    if (this.choice.density.checked) this.density(pen, box, x, y, colour);
    if (this.choice.data.checked) this.behind(pen, across, up, colour);
    const groups = this.groups(colour), radius = clamp(wide / 320, 1.3, 2);
    if (this.choice.trails.checked) this.trails(pen, t, across, up, groups);
    pen.globalAlpha = 0.75;
    for (const [shade, members] of groups) {
      pen.fillStyle = shade;
      pen.beginPath();
      for (const i of members) {
        const u = across(x[i]), v = up(y[i]);
        pen.moveTo(u + radius, v);
        pen.arc(u, v, radius, 0, 7);
      }
      pen.fill();
    }
    pen.restore();
  }

  height(width) {
    return Math.round(clamp((width - 72) * this.ratio() + 54, 240, 540));
  }

  axes(pen, { left, top, wide, high, views }, across, up, colour) {
    pen.strokeStyle = colour("--line");
    pen.fillStyle = colour("--soft");
    pen.lineWidth = 1;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const [value, text] of ticks(...views[0], Math.max(3, wide / 80))) {
      const u = Math.round(across(value)) + 0.5;
      pen.beginPath(); pen.moveTo(u, top); pen.lineTo(u, top + high); pen.stroke();
      pen.fillText(text, u, top + high + 6);
    }
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const [value, text] of ticks(...views[1], Math.max(3, high / 42))) {
      const v = Math.round(up(value)) + 0.5;
      pen.beginPath(); pen.moveTo(left, v); pen.lineTo(left + wide, v); pen.stroke();
      pen.fillText(text, left - 6, v);
    }
    pen.fillStyle = colour("--ink");
    pen.textAlign = "center";
    pen.textBaseline = "bottom";
    const [a, b] = this.columns.map(column => this.film.names[column]);
    pen.fillText(fitting(pen, a, wide), left + wide / 2, top + high + 42);
    pen.save();
    pen.translate(14, top + high / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(fitting(pen, b, high), 0, 2);
    pen.restore();
  }

  /** Colours with the numbers of the particles that have them. */
  groups(colour) {
    const kind = this.choice.colour.value, n = this.film.count, groups = new Map();
    let shade = () => colour("--model");
    if (kind === "label") shade = i => colour(`--c${this.film.labels[i] % 10}`);
    if (kind === "start") {
      const [x, y] = this.columns.map(column => this.at(column, 0));
      const [p, q] = [x, y].map(values => values.reduce((sum, v) => sum + v, 0) / n);
      const [r, s] = this.columns.map(column => this.film.views[column][1] - this.film.views[column][0]);
      const light = colour("--lightness");
      shade = i => {
        const turn = Math.atan2((y[i] - q) / s, (x[i] - p) / r) / (2 * Math.PI) + 1;
        return `hsl(${Math.floor(turn * HUES) % HUES * 360 / HUES}, 65%, ${light})`;
      };
    }
    for (let i = 0; i < n; i++) {
      const key = shade(i);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(i);
    }
    return groups;
  }

  /** Where some particles have been of late, the fainter the longer ago. */
  trails(pen, t, across, up, groups) {
    const [a, b] = this.columns, pieces = 8, ages = [];
    for (let j = 0; j <= pieces; j++) {
      const then = Math.max(0, t - TRAIL * (1 - j / pieces));
      ages.push([this.at(a, then, TRAILS), this.at(b, then, TRAILS)]);
    }
    pen.lineWidth = 1;
    for (const [shade, members] of groups) {
      pen.strokeStyle = shade;
      for (let j = 0; j < pieces; j++) {
        const [[x, y], [u, v]] = [ages[j], ages[j + 1]];
        pen.globalAlpha = 0.5 * (j + 1) / pieces;
        pen.beginPath();
        for (const i of members) {
          if (i >= TRAILS) break;
          pen.moveTo(across(x[i]), up(y[i]));
          pen.lineTo(across(u[i]), up(v[i]));
        }
        pen.stroke();
      }
    }
  }

  behind(pen, across, up, colour) {
    const [a, b] = this.columns, [x, y] = [this.data[a], this.data[b]];
    pen.globalAlpha = 0.3;
    pen.fillStyle = colour("--data");
    for (let i = 0; i < x.length; i++)
      pen.fillRect(across(this.value(a, x[i])) - 1.25, up(this.value(b, y[i])) - 1.25, 2.5, 2.5);
    pen.globalAlpha = 1;
  }

  /** A histogram of the particles that are seen, smoothed, in shades of one colour. */
  density(pen, { left, top, wide, high, views }, x, y, colour) {
    let cells = new Float32Array(GRID * GRID);
    for (let i = 0; i < x.length; i++) {
      const u = Math.floor(GRID * (x[i] - views[0][0]) / (views[0][1] - views[0][0]));
      const v = Math.floor(GRID * (views[1][1] - y[i]) / (views[1][1] - views[1][0]));
      if (u >= 0 && u < GRID && v >= 0 && v < GRID) cells[v * GRID + u]++;
    }
    for (let round = 0; round < 3; round++) cells = smoothed(smoothed(cells));
    const most = cells.reduce((a, b) => Math.max(a, b), 1e-9);
    const brush = this.cells.getContext("2d"), image = brush.createImageData(GRID, GRID);
    const [red, green, blue] = rgb(pen, colour(this.choice.colour.value === "one" ? "--model" : "--soft"));
    for (let i = 0; i < cells.length; i++)
      image.data.set([red, green, blue, 130 * (cells[i] / most) ** 0.7], 4 * i);
    brush.putImageData(image, 0, 0);
    pen.drawImage(this.cells, left, top, wide, high);
  }
}

/** Means of three neighbours along a row, turned, so that a second time does the same along columns. */
function smoothed(cells) {
  const found = new Float32Array(cells.length);
  for (let v = 0; v < GRID; v++)
    for (let u = 0; u < GRID; u++) {
      let sum = 0;
      for (let k = Math.max(0, u - 1); k <= Math.min(GRID - 1, u + 1); k++) sum += cells[v * GRID + k];
      found[u * GRID + v] = sum / 3;
    }
  return found;
}

function rgb(pen, colour) {
  pen.fillStyle = colour;
  return [1, 3, 5].map(i => parseInt(pen.fillStyle.slice(i, i + 2), 16));
}

/** Text that is not wider than so many pixels. */
function fitting(pen, text, wide) {
  if (pen.measureText(text).width <= wide) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(text.slice(0, end) + "\u2026").width > wide) end--;
  return text.slice(0, end) + "\u2026";
}
