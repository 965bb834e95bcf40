// Images in a grid.

/** Images in a grid; between two stored times one fades into the next. */
class Images {
  constructor(film, canvas, choice, redraw) {
    Object.assign(this, { film, canvas });
    this.sheets = film.sheets.map(address => {
      const image = new Image();
      image.addEventListener("load", redraw);
      image.src = address;
      return image;
    });
  }

  get lines() { return Math.ceil(this.film.count / this.film.across); }

  height(width) {
    const [w, h] = this.film.size;
    return Math.round(this.side(width) * this.lines * h / (w * this.film.across));
  }

  /** Pixels across of the grid: not so wide that it would not fit on a screen. */
  side(width) {
    const [w, h] = this.film.size;
    return Math.min(width, 560 * w * this.film.across / (h * this.lines));
  }

  draw(pen, width, t) {
    const [k, w] = place(this.film.times, t), gap = 2, left = (width - this.side(width)) / 2;
    const [across, down] = this.film.size, cell = this.side(width) / this.film.across;
    const tall = cell * down / across;
    pen.imageSmoothingEnabled = cell > 0 && across > cell;
    for (let i = 0; i < this.film.count; i++) {
      const u = i % this.film.across, v = Math.floor(i / this.film.across);
      [[k, 1], [k + 1, w]].forEach(([sheet, share]) => {
        if (!this.sheets[sheet].complete || share === 0) return;
        pen.globalAlpha = share;
        pen.drawImage(this.sheets[sheet], u * across, v * down, across, down,
          left + u * cell + gap / 2, v * tall + gap / 2, cell - gap, tall - gap);
      });
    }
    pen.globalAlpha = 1;
  }
}
