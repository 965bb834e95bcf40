// Time, and the controls; `Points` and `Images` draw.

const SECONDS = 4;      // that the flow takes at the speed 1
const PAUSE = 0.8;      // seconds at the end before it is repeated
const STEP = 1 / 40;    // of the arrow keys

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** The stored time before t, and the share of the way from it to the next. */
function place(times, t) {
  let k = 0;
  while (k < times.length - 2 && times[k + 1] <= t) k++;
  return [k, clamp((t - times[k]) / (times[k + 1] - times[k]), 0, 1)];
}

function start(root) {
  const film = JSON.parse(root.querySelector("script").textContent);
  const canvas = root.querySelector("canvas"), button = root.querySelector("button");
  const slider = root.querySelector("input[type=range]"), output = root.querySelector("output");
  const choice = {};
  for (const control of root.querySelectorAll("select, input[type=checkbox]")) choice[control.name] = control;
  let t = 1, playing = false, last = 0, rest = 0, drawn = 0;
  const view = new (film.kind === "images" ? Images : Points)(film, canvas, choice, () => draw());

  function draw() {
    const width = canvas.clientWidth, height = view.height(width), dots = devicePixelRatio || 1;
    if (!width) return;
    drawn = width;
    const style = getComputedStyle(root);
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    const pen = canvas.getContext("2d");
    pen.scale(dots, dots);
    view.draw(pen, width, t, name => style.getPropertyValue(name).trim());
    canvas.dataset.t = t;
  }

  function go(to) {
    t = clamp(to, 0, 1);
    slider.value = t;
    output.textContent = film.layers ? `layer ${(t * film.layers).toFixed(1)}` : `t = ${t.toFixed(2)}`;
    slider.setAttribute("aria-valuetext", output.textContent);
    draw();
  }

  function tick(now) {
    if (!playing) return;
    const passed = Math.min(0.1, (now - last) / 1000);
    last = now;
    if (t < 1) go(t + passed * Number(choice.speed.value) / SECONDS);
    else if (!choice.repeat.checked) return play(false);
    else if ((rest += passed) > PAUSE) { rest = 0; go(0); }
    requestAnimationFrame(tick);
  }

  function play(on) {
    playing = on;
    button.textContent = on ? "Pause" : "Play";
    if (!on) return;
    if (t >= 1) go(0);
    last = performance.now();
    rest = 0;
    requestAnimationFrame(tick);
  }

  button.addEventListener("click", () => play(!playing));
  slider.addEventListener("input", () => { play(false); go(Number(slider.value)); });
  root.addEventListener("change", event => { if (event.target !== slider) draw(); });
  root.addEventListener("keydown", event => {
    const own = event.target === root || event.target === slider;
    const to = { ArrowRight: t + STEP, ArrowLeft: t - STEP, Home: 0, End: 1 }[event.key];
    if (!own || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") play(!playing);
    else if (to !== undefined) { play(false); go(to); }
    else return;
    event.preventDefault();
  });
  root.hidden = false;
  if (view.positions) root.positions = () => view.positions(t);
  // a drawing may change the height, which is no reason for another one
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (canvas.clientWidth !== drawn) draw();
  })).observe(root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", draw);
  go(1);
}

document.querySelectorAll(".player").forEach(start);
