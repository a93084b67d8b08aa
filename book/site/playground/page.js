/* The playground's page: choices in, pictures and probabilities out. What is computed is in network.js. */

"use strict";

const Playground = (() => {
  const find = (id) => document.getElementById(id);
  if (typeof PLAYGROUND === "undefined") {
    find("broken").hidden = false;
    return null;
  }

  const SIDE = PLAYGROUND.model.size;
  const model = new Network.Classifier(PLAYGROUND.model);
  const percent = (share) => `${(100 * share).toFixed(1)}%`;
  const clip = (value, low, high) => Math.min(Math.max(value, low), high);

  /* The sliders: what they mean, and where they are; attacks of the same kind share one. */
  const haze = { name: "ε, the most that a pixel may change", max: 0.5, step: 0.01, value: 0.2, digits: 2 };
  const budget = { name: "pixels that may change (112: one in seven, as in the paper)", max: 112, step: 2, value: 112, digits: 0 };
  const shade = { name: "ink of the pixel", max: 1, step: 0.01, value: 0, digits: 2 };

  /* The attacks; each gives the images after every step. */
  const ATTACKS = {
    fgsm: {
      title: "Fast gradient sign (FGSM)",
      explanation: "One step: every pixel moves by ε as its gradient tells, as far as paper and full ink allow.",
      chapter: ["2", "02_fast_gradient_sign"],
      slider: haze,
      aims: true,
      make: (image, { size, ...rest }) =>
        Network.iterativeFgsm(model, image, { ...rest, epsilon: size, stepSize: size, steps: 1 }),
    },
    iterated: {
      title: "Iterated FGSM",
      explanation: "Twenty small steps, each with a new gradient; no pixel ends up further than ε from where it was.",
      chapter: ["2", "02_fast_gradient_sign"],
      slider: haze,
      aims: true,
      make: (image, { size, ...rest }) =>
        Network.iterativeFgsm(model, image, { ...rest, epsilon: size, stepSize: size / 10, steps: 20 }),
    },
    jsma: {
      title: "Saliency map (JSMA)",
      explanation:
        "Two pixels at a time become ink, until the target is read or no more may change. With any other digit, the target is the one that is second now.",
      chapter: ["3", "03_jsma"],
      slider: budget,
      aims: true,
      needsTarget: true,
      make: (image, { size, target }) => Network.jsma(model, image, { target, pixels: size }),
    },
    pixel: {
      title: "One pixel, by hand",
      explanation:
        "Click or tap a pixel of the changed digit: it flips between paper and ink. Keep hold and drag down for less ink, up for more. Or tab to the picture, move with the arrow keys, and change the ink with + and −.",
      chapter: ["4", "04_one_pixel"],
      slider: shade,
      make: function* (image, { size, place }) {
        yield image.map((pixel, i) => (i === place ? size : pixel));
      },
    },
    noise: {
      title: "Random noise (control)",
      explanation:
        "Every pixel moves by ε, up or down by the toss of a coin, as far as paper and full ink allow: what an attack must beat.",
      chapter: ["2", "02_fast_gradient_sign"],
      slider: haze,
      button: "New noise",
      make: (image, { size, signs }) => Network.randomNoise(image, { epsilon: size, signs }),
    },
  };

  const middle = (SIDE / 2) * SIDE + SIDE / 2;
  const state = {
    original: null,
    drawn: false, // so that nobody knows its true class
    before: null, // what the network makes of it
    changed: null,
    after: null,
    active: false, // whether an attack is on show
    aim: null, // the class that it is to be read as
    job: 0, // tells a newer run from an older
    place: middle, // of the one pixel
    signs: null, // of the noise
  };
  const paper = new Float32Array(SIDE * SIDE); // what was drawn
  let cursor = middle; // on the paper, for the keyboard

  const attack = () => ATTACKS[find("attack").value];
  const byHand = () => attack() === ATTACKS.pixel;
  const target = () => (attack().aims && find("target").value !== "any" ? Number(find("target").value) : null);
  const size = () => Number(find("size").value);

  // --- pictures -------------------------------------------------------------------------------------

  /** Draw pixels (height × width) with a function from a value to red, green and blue. */
  function draw(canvas, values, width, colour) {
    canvas.width = width;
    canvas.height = values.length / width;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    values.forEach((value, i) => image.data.set([...colour(value), 255], 4 * i));
    context.putImageData(image, 0, 0);
  }

  const ink = (value) => Array(3).fill(Math.round(255 * (1 - value)));

  /** Blue for -1 by way of white to red for 1: matplotlib's RdBu_r at nine places. */
  const SCALE = [
    [5, 48, 97], [42, 113, 178], [107, 172, 208], [194, 221, 235], [247, 246, 246],
    [251, 208, 185], [227, 128, 101], [180, 33, 46], [103, 0, 31],
  ];
  function diverging(value) {
    if (Number.isNaN(value)) return [201, 206, 214]; // between filters
    const place = 4 * (clip(value, -1, 1) + 1);
    const left = Math.min(Math.floor(place), 7);
    return SCALE[left].map((low, i) => Math.round(low + (place - left) * (SCALE[left + 1][i] - low)));
  }

  /** Put the mark of a canvas around a pixel, or hide it. */
  function mark(canvas, place) {
    const box = canvas.parentElement.querySelector(".mark");
    box.hidden = place === null;
    box.style.left = `${(100 * (place % SIDE)) / SIDE}%`;
    box.style.top = `${(100 * Math.floor(place / SIDE)) / SIDE}%`;
  }

  /** Filters in a square, a line between them. */
  function tiles(values, side, depth) {
    const columns = Math.ceil(Math.sqrt(depth));
    const width = columns * (side + 1) - 1;
    const all = new Float64Array(width * width).fill(NaN);
    for (let filter = 0; filter < depth; filter++) {
      const top = Math.floor(filter / columns) * (side + 1);
      const left = (filter % columns) * (side + 1);
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          all[(top + y) * width + left + x] = values[(y * side + x) * depth + filter];
        }
      }
    }
    return { all, width };
  }

  const length = (values) => Math.sqrt(values.reduce((total, value) => total + value * value, 0));
  const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const differences = (after, before) => after.map((value, i) => value - before[i]);

  // --- words ----------------------------------------------------------------------------------------

  let saying;
  /** Tell a screen reader, once nothing newer has come for a moment. */
  function say(text) {
    clearTimeout(saying);
    saying = setTimeout(() => {
      find("live").textContent = text;
    }, 500);
  }

  function verdict(was, is, shares) {
    const { active, drawn, aim, original } = state;
    const read = `${is} (${percent(shares[is])})`;
    if (!active && !original.some(Boolean)) return `Nothing is drawn yet. The network still gives ten answers: read as ${read}.`;
    if (!active) return `Read as ${read}.`;
    let goal = "";
    if (aim !== null) goal = is === aim ? ", the target" : `; the target was ${aim}`;
    if (is === was) return `Still read as ${read}${drawn ? "" : ": not fooled"}${goal}.`;
    return drawn ? `Changed: what was read as ${was} is read as ${read}${goal}.` : `Fooled: the ${was} is read as ${read}${goal}.`;
  }

  const spot = (place) => `row ${Math.floor(place / SIDE) + 1}, column ${(place % SIDE) + 1}`;

  // --- what is shown --------------------------------------------------------------------------------

  function show(ended) {
    const { original, before, changed, after } = state;
    const change = differences(changed, original);
    const most = largest(change);
    const count = change.filter((value) => value !== 0).length;
    draw(find("original"), original, SIDE, ink);
    draw(find("change"), change.map((value) => value / (most || 1)), SIDE, diverging);
    draw(find("result"), changed, SIDE, ink);
    mark(find("result"), byHand() ? state.place : null);
    find("limit").textContent = most.toFixed(2);

    const [first, second] = [before, after].map(({ logits }) => Network.softmax(logits));
    const [was, is] = [first, second].map(Network.argmax);
    find("probabilities").querySelectorAll("tbody tr").forEach((row, digit) => {
      const [, old, now, bars] = row.children;
      old.textContent = percent(first[digit]);
      now.textContent = percent(second[digit]);
      bars.children[0].style.width = percent(first[digit]);
      bars.children[1].style.width = percent(second[digit]);
      row.classList.toggle("read", digit === is);
    });

    for (const layer of model.layers) {
      const figure = find(`layer-${layer.name}`);
      const old = before.activations[layer.name];
      const grown = differences(after.activations[layer.name], old);
      const height = largest(grown) || 1;
      const { all, width } = tiles(grown, layer.outSize, layer.outDepth);
      draw(figure.querySelector("canvas"), all.map((value) => value / height), width, diverging);
      const share = length(grown) / (length(old) || 1);
      figure.querySelector("figcaption").textContent =
        `${layer.name}, ${layer.outDepth} filters of ${layer.outSize} × ${layer.outSize}: changed by ${percent(share)}`;
    }
    find("inside").hidden = count === 0;
    find("unchanged").hidden = count !== 0;

    const words = ended ? verdict(was, is, second) : "Attacking …";
    find("verdict").textContent = words;
    find("reading").textContent = words;
    find("sizes").textContent = count === 0
      ? "Nothing is changed."
      : `Pixels changed: ${count} of ${change.length}, by ${most.toFixed(2)} at most. Length of the change (L2): ${length(change).toFixed(2)}.`;
    return words;
  }

  /** The slider of the chosen attack and its targets, of which the digit that is read now is none. */
  function offer() {
    const { slider, explanation, chapter, aims, button = "Attack" } = attack();
    const [input, choice] = [find("size"), find("target")];
    Object.assign(input, { min: 0, max: slider.max, step: slider.step });
    input.value = slider.value;
    find("size-name").textContent = slider.name;
    find("size-value").textContent = slider.value.toFixed(slider.digits);
    const link = document.createElement("a");
    link.href = `../notebooks/${chapter[1]}.html`;
    link.textContent = `Chapter ${chapter[0]}`;
    find("explanation").replaceChildren(`${explanation} `, link);
    for (const element of [choice, document.querySelector("label[for=target]")]) element.hidden = !aims;
    find("run").hidden = byHand();
    find("run").textContent = button;

    const own = String(Network.argmax(state.before.logits));
    for (const option of choice.options) option.disabled = option.value === own;
    if (choice.value === own) choice.value = "any";

    const result = find("result");
    if (byHand()) result.tabIndex = 0;
    else result.removeAttribute("tabindex");
    result.setAttribute("role", byHand() ? "application" : "img");
    result.setAttribute("aria-label", byHand() ? "The changed digit: arrow keys move to a pixel, plus and minus change its ink" : "The changed digit");
  }

  /** Show what the choices say: the original, or an attack on it, step by step. A newer call ends it. */
  async function update(extra = "") {
    const job = ++state.job;
    offer();
    let last = state.original;
    if (state.active) {
      const { logits } = state.before;
      const label = Network.argmax(logits);
      const second = Network.argmax(logits.map((logit, k) => (k === label ? -Infinity : logit)));
      state.aim = target() ?? (attack().needsTarget ? second : null);
      const settings = { label, target: state.aim, size: size(), place: state.place, signs: state.signs };
      let shown = performance.now();
      for (last of attack().make(state.original, settings)) {
        if (performance.now() - shown < 30) continue;
        change(last, false);
        await new Promise(requestAnimationFrame);
        if (job !== state.job) return;
        shown = performance.now();
      }
    }
    say(`${extra}${change(last, true)}`);
  }

  function change(image, ended) {
    state.changed = image;
    state.after = image === state.original ? state.before : model.run(image);
    return show(ended);
  }

  /** Take another original. */
  function take(image, drawn) {
    state.original = image;
    state.drawn = drawn;
    state.before = model.run(image);
    if (byHand()) stay(state.place);
    else update();
  }

  function toss() {
    state.signs = Array.from({ length: SIDE * SIDE }, () => (Math.random() < 0.5 ? -1 : 1));
  }

  // --- one pixel by hand ----------------------------------------------------------------------------

  /** Go to a pixel, which is then as it was. */
  function stay(place) {
    state.place = place;
    state.active = false;
    shade.value = state.original[place];
    update(`${spot(place)}, ink ${shade.value.toFixed(2)}. `);
  }

  /** Change the pixel. */
  function colour(value) {
    state.active = true;
    shade.value = clip(value, 0, 1);
    update(`${spot(state.place)}, ink ${shade.value.toFixed(2)}. `);
  }

  /** The pixel at, or next to, a column and a row. */
  const nearest = ([x, y]) => clip(y, 0, SIDE - 1) * SIDE + clip(x, 0, SIDE - 1);
  const position = (place) => [place % SIDE, Math.floor(place / SIDE)];

  /** Column and row under the pointer, which may have left the canvas. */
  function under(event) {
    const box = event.currentTarget.getBoundingClientRect();
    return [
      Math.floor((SIDE * (event.clientX - box.left)) / box.width),
      Math.floor((SIDE * (event.clientY - box.top)) / box.height),
    ];
  }

  /** Call `start` where a pointer goes down, and `move` with what it returned as long as it stays down. */
  function drags(canvas, start, move) {
    let held = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      held = start(event);
      if (held !== null) canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (held !== null && event.isPrimary) held = move(event, held);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => {
        held = null;
      });
    }
  }

  /** Call `act` with each key that no shortcut needs; what it handles goes no further. */
  function keys(canvas, act) {
    canvas.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && act(event.key)) event.preventDefault();
    });
  }

  /** Where an arrow key leads from a pixel; null for other keys. */
  function step(key, place) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(key in moves)) return null;
    const [[x, y], [dx, dy]] = [position(place), moves[key]];
    return nearest([x + dx, y + dy]);
  }

  function handPixel(canvas) {
    drags(
      canvas,
      (event) => {
        if (!byHand()) return null;
        state.place = nearest(under(event));
        const value = state.original[state.place] < 0.5 ? 1 : 0;
        colour(value);
        return { y: event.clientY, value };
      },
      (event, held) => {
        if (!byHand()) return null;
        colour(held.value + (held.y - event.clientY) / 100);
        return held;
      },
    );
    keys(canvas, (key) => {
      const place = step(key, state.place);
      const up = { "+": 0.1, "=": 0.1, "-": -0.1, "−": -0.1 }[key];
      if (!byHand() || (place === null && up === undefined)) return false;
      if (place === null) colour(shade.value + up);
      else stay(place);
      return true;
    });
  }

  // --- drawing --------------------------------------------------------------------------------------

  const distance = (i, [x, y]) => Math.hypot((i % SIDE) - x, Math.floor(i / SIDE) - y);

  /** Ink from one column and row to another, as a pen of about two pixels leaves it; none beside the paper. */
  function stroke([fromX, fromY], [toX, toY]) {
    const count = Math.max(Math.abs(toX - fromX), Math.abs(toY - fromY), 1);
    for (let n = 0; n <= count; n++) {
      const point = [fromX + (n * (toX - fromX)) / count, fromY + (n * (toY - fromY)) / count].map(Math.round);
      paper.forEach((value, i) => {
        paper[i] = Math.max(value, clip(1.7 - distance(i, point), 0, 1));
      });
    }
  }

  function rub(point) {
    paper.forEach((_, i) => {
      if (distance(i, point) < 1.5) paper[i] = 0;
    });
  }

  /** What was drawn, moved so that its centre of ink is in the middle. */
  function centred() {
    let [total, x, y] = [0, 0, 0];
    paper.forEach((value, i) => {
      total += value;
      x += value * (i % SIDE);
      y += value * Math.floor(i / SIDE);
    });
    const [dx, dy] = [x, y].map((sum) => (total ? Math.round(SIDE / 2 - sum / total) : 0));
    return paper.map((_, i) => {
      const [column, row] = [(i % SIDE) - dx, Math.floor(i / SIDE) - dy];
      return column >= 0 && column < SIDE && row >= 0 && row < SIDE ? paper[row * SIDE + column] : 0;
    });
  }

  function showPaper() {
    draw(find("pad"), paper, SIDE, ink);
    mark(find("pad"), document.activeElement === find("pad") ? cursor : null);
  }

  /** The paper as the original; an attack on what was there before is over. */
  function drawn() {
    showPaper();
    state.active = false;
    take(centred(), true);
  }

  function handDrawing(canvas) {
    const drag = (event, last) => {
      const point = under(event);
      cursor = nearest(point);
      stroke(last, point);
      drawn();
      return point;
    };
    drags(canvas, (event) => drag(event, under(event)), drag);
    keys(canvas, (key) => {
      const place = step(key, cursor);
      if (place !== null) {
        cursor = place;
        showPaper();
        say(`${spot(cursor)}, ${paper[cursor] > 0.5 ? "ink" : "paper"}`);
      } else if (key === " ") {
        stroke(position(cursor), position(cursor));
        drawn();
      } else if (key === "Delete" || key === "Backspace") {
        rub(position(cursor));
        drawn();
      } else {
        return false;
      }
      return true;
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, showPaper);
  }

  // --- the page -------------------------------------------------------------------------------------

  function option(value, text) {
    const element = document.createElement("option");
    element.value = value;
    element.textContent = text;
    return element;
  }

  /** A radio button under a picture. */
  function choice(name, picture, chosen) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "digit", value: name, autocomplete: "off" });
    input.setAttribute("aria-label", name);
    input.addEventListener("change", chosen);
    label.append(input, picture);
    find("digits").append(label);
    return input;
  }

  /** Light or dark as it was chosen in the book, which keeps it here. */
  function dress() {
    try {
      const mode = localStorage.getItem("mode");
      if (mode === "light" || mode === "dark") document.documentElement.dataset.theme = mode;
    } catch {
      // Not to be had where cookies are blocked.
    }
  }

  function build() {
    const given = PLAYGROUND.digits.map((text) =>
      Float32Array.from(atob(text), (letter) => letter.charCodeAt(0) / 255));
    const inputs = given.map((image, i) => {
      const picture = document.createElement("canvas");
      draw(picture, image, SIDE, ink);
      return choice(`${PLAYGROUND.label}, number ${i + 1}`, picture, () => {
        find("drawing").hidden = true;
        take(image, false);
      });
    });
    const own = document.createElement("span");
    own.textContent = "draw";
    choice("draw", own, () => {
      find("drawing").hidden = false;
      find("pad").scrollIntoView({ block: "nearest" });
      drawn();
    });

    for (const [name, { title }] of Object.entries(ATTACKS)) find("attack").append(option(name, title));
    find("target").append(option("any", "any other digit"));
    for (let digit = 0; digit < model.classes; digit++) {
      find("target").append(option(digit, digit));
      const row = find("probabilities").tBodies[0].insertRow();
      row.innerHTML =
        `<th scope="row">${digit}</th><td></td><td></td>` +
        '<td aria-hidden="true"><span class="bar before"></span><span class="bar after"></span></td>';
    }
    for (const layer of model.layers) {
      const figure = document.createElement("figure");
      figure.id = `layer-${layer.name}`;
      figure.innerHTML = '<canvas role="img" aria-hidden="true"></canvas><figcaption></figcaption>';
      document.querySelector(".layers").append(figure);
    }

    const start = () => {
      state.active = true;
      update();
    };
    find("attack").addEventListener("change", () => {
      if (byHand()) stay(state.place);
      else start();
    });
    find("target").addEventListener("change", start);
    find("size").addEventListener("input", () => {
      attack().slider.value = size();
      start();
    });
    find("run").addEventListener("click", () => {
      toss();
      start();
    });
    find("reset").addEventListener("click", () => {
      state.active = false;
      if (byHand()) stay(state.place);
      else update();
    });
    find("wipe").addEventListener("click", () => {
      paper.fill(0);
      drawn();
    });
    handPixel(find("result"));
    handDrawing(find("pad"));

    dress();
    toss();
    find("playground").hidden = false;
    inputs[0].checked = true;
    take(given[0], false);
  }

  build();
  return { state };
})();
