/* The playground's page: choices in, pictures and probabilities out. What is computed is in network.js. */

"use strict";

const Playground = (() => {
  const SIDE = PLAYGROUND.model.size;
  const model = new Network.Classifier(PLAYGROUND.model);
  const find = (id) => document.getElementById(id);
  const percent = (share) => `${(100 * share).toFixed(1)}%`;

  /* Attacks: what the slider means, whether a target may be, or must be, chosen, and how they are made.
     Each gives the images after every step. */
  const haze = { name: "ε", min: 0, max: 0.5, step: 0.01, value: 0.2, digits: 2 };
  const ATTACKS = {
    fgsm: {
      title: "Fast gradient sign method (FGSM)",
      explanation: "One step: every pixel moves by ε, in the direction that its gradient tells.",
      chapter: ["2", "02_fast_gradient_sign"],
      slider: haze,
      make: (image, { size, ...rest }) =>
        Network.iterativeFgsm(model, image, { ...rest, epsilon: size, stepSize: size, steps: 1 }),
    },
    iterated: {
      title: "Iterated FGSM",
      explanation: "Twenty small steps that never leave the box of ε around the original.",
      chapter: ["2", "02_fast_gradient_sign"],
      slider: haze,
      make: (image, { size, ...rest }) =>
        Network.iterativeFgsm(model, image, { ...rest, epsilon: size, stepSize: size / 10, steps: 20 }),
    },
    jsma: {
      title: "Saliency map (JSMA)",
      explanation: "Two pixels at a time become ink, until the target is read or the budget is spent.",
      chapter: ["3", "03_jsma"],
      slider: { name: "pixels at most", min: 0, max: 112, step: 2, value: 112, digits: 0 },
      needsTarget: true,
      make: (image, { size, target }) => Network.jsma(model, image, { target, pixels: size }),
    },
    pixel: {
      title: "One pixel, by hand",
      explanation:
        "Click a pixel of the changed digit and drag up or down; or move to it with the arrow keys, and change it with + and −.",
      chapter: ["4", "04_one_pixel"],
      slider: { name: "value of the pixel", min: 0, max: 1, step: 0.01, value: 1, digits: 2 },
      byHand: true,
      make: function* (image, { size, place }) {
        yield image.map((pixel, i) => (i === place ? size : pixel));
      },
    },
    noise: {
      title: "Random noise (control)",
      explanation: "Every pixel moves by ε, up or down by the toss of a coin: what an attack must beat.",
      chapter: ["2", "02_fast_gradient_sign"],
      slider: haze,
      blind: true,
      make: (image, { size }) =>
        Network.randomNoise(image, { epsilon: size, coin: () => Math.random() < 0.5 }),
    },
  };

  /* What is shown: images and what the network makes of them. `job` tells a newer run from an older. */
  const state = { original: null, before: null, changed: null, after: null, place: 14 * SIDE + 14, job: 0 };
  const paper = new Float32Array(SIDE * SIDE); // what was drawn
  let cursor = 14 * SIDE + 14; // on it, for the keyboard

  const attack = () => ATTACKS[find("attack").value];
  const target = () => (find("target").value === "any" ? null : Number(find("target").value));

  // --- pictures -------------------------------------------------------------------------------------

  /** Draw pixels (height × width) with a function from a value to red, green and blue. */
  function draw(canvas, values, width, colour) {
    canvas.width = width;
    canvas.height = values.length / width;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    values.forEach((value, i) => image.data.set([...colour(value), 255], 4 * i));
    context.putImageData(image, 0, 0);
    return context;
  }

  const ink = (value) => Array(3).fill(Math.round(255 * (1 - value)));

  /** Blue for -1 by way of white to red for 1: matplotlib's RdBu_r at nine places. */
  const SCALE = [
    [5, 48, 97], [42, 113, 178], [107, 172, 208], [194, 221, 235], [247, 246, 246],
    [251, 208, 185], [227, 128, 101], [180, 33, 46], [103, 0, 31],
  ];
  function diverging(value) {
    if (Number.isNaN(value)) return [201, 206, 214]; // between filters
    const place = 4 * (Math.min(Math.max(value, -1), 1) + 1);
    const left = Math.min(Math.floor(place), 7);
    return SCALE[left].map((low, i) => Math.round(low + (place - left) * (SCALE[left + 1][i] - low)));
  }

  function mark(context, place) {
    context.fillStyle = "rgba(0, 114, 178, 0.5)";
    context.fillRect(place % SIDE, Math.floor(place / SIDE), 1, 1);
  }

  /** Filters in a square, a line between them. */
  function tiles(values, size, depth) {
    const columns = Math.ceil(Math.sqrt(depth));
    const width = columns * (size + 1) - 1;
    const all = new Float64Array(width * width).fill(NaN);
    for (let filter = 0; filter < depth; filter++) {
      const top = Math.floor(filter / columns) * (size + 1);
      const left = (filter % columns) * (size + 1);
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          all[(top + y) * width + left + x] = values[(y * size + x) * depth + filter];
        }
      }
    }
    return { all, width };
  }

  const length = (values) => Math.sqrt(values.reduce((total, value) => total + value * value, 0));
  const differences = (after, before) => after.map((value, i) => value - before[i]);

  function largest(values) {
    let most = 0;
    for (const value of values) most = Math.max(most, Math.abs(value));
    return most;
  }

  // --- what is shown --------------------------------------------------------------------------------

  /** Show the state; the words only at the end of a run, or a screen reader would not get a word in. */
  function show(ended = true) {
    const { original, before, changed, after } = state;
    const change = differences(changed, original);
    const most = largest(change);
    draw(find("original"), original, SIDE, ink);
    draw(find("change"), change.map((value) => value / (most || 1)), SIDE, diverging);
    const context = draw(find("result"), changed, SIDE, ink);
    if (attack().byHand) mark(context, state.place);
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
    const count = change.filter((value) => value !== 0).length;
    if (ended) {
      find("summary").textContent =
        count === 0
          ? `The network reads ${was} (${percent(first[was])}). Nothing is changed.`
          : `The network reads ${is} (${percent(second[is])}); before, ${was} (${percent(first[was])}). ` +
            `Pixels changed: ${count}; by ${most.toFixed(2)} at most; Euclidean length ${length(change).toFixed(2)}.`;
    }

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
    find("undo").disabled = count === 0;
  }

  /** Take another original, unchanged. */
  function take(image) {
    state.job++;
    state.original = state.changed = image;
    state.before = state.after = model.run(image);
    show();
  }

  function change(image, ended) {
    state.changed = image;
    state.after = model.run(image);
    show(ended);
  }

  /** Make the attack, showing it on the way; a newer run, or another choice, ends it. */
  async function run() {
    const job = ++state.job;
    const settings = {
      label: Network.argmax(state.before.logits),
      target: target(),
      size: Number(find("size").value),
      place: state.place,
    };
    let shown = performance.now();
    let last = state.original;
    for (last of attack().make(state.original, settings)) {
      if (performance.now() - shown < 30) continue;
      change(last, false);
      await new Promise(requestAnimationFrame);
      if (job !== state.job) return;
      shown = performance.now();
    }
    change(last, true);
  }

  const attacked = () => state.changed !== state.original;

  // --- choices --------------------------------------------------------------------------------------

  function option(value, text) {
    const element = document.createElement("option");
    element.value = value;
    element.textContent = text;
    return element;
  }

  /** Slider and targets of the chosen attack. */
  function offer() {
    const { slider, explanation, chapter, needsTarget, byHand, blind } = attack();
    const input = find("size");
    for (const name of ["min", "max", "step"]) input[name] = slider[name];
    input.value = slider.value;
    find("size-name").textContent = slider.name;
    const link = document.createElement("a");
    link.href = `../notebooks/${chapter[1]}.html`;
    link.textContent = `Chapter ${chapter[0]}`;
    find("explanation").replaceChildren(`${explanation} `, link);
    find("target").disabled = Boolean(byHand || blind);
    find("target").options[0].disabled = Boolean(needsTarget);
    if (needsTarget && target() === null) find("target").value = "6";
    find("run").hidden = Boolean(byHand);
    const result = find("result");
    if (byHand) {
      result.tabIndex = 0;
      result.setAttribute("role", "application");
    } else {
      result.removeAttribute("tabindex");
      result.setAttribute("role", "img");
    }
    tell();
  }

  /** The slider's value in words. */
  function tell() {
    const { slider } = attack();
    const value = Number(find("size").value);
    find("size-value").textContent = value.toFixed(slider.digits);
    const spot = `row ${Math.floor(state.place / SIDE) + 1}, column ${(state.place % SIDE) + 1}`;
    find("result").setAttribute(
      "aria-label", attack().byHand ? `The changed digit: pixel in ${spot} is ${value.toFixed(2)}` : "The changed digit"
    );
  }

  /** The pixel of a canvas under the pointer. */
  function under(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top].map((at, i) =>
      Math.min(Math.max(Math.floor((SIDE * at) / (i ? box.height : box.width)), 0), SIDE - 1));
    return y * SIDE + x;
  }

  /** Where an arrow key leads from a pixel; null for other keys. */
  function step(key, place) {
    const [x, y] = [place % SIDE, Math.floor(place / SIDE)];
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(key in moves)) return null;
    const [dx, dy] = moves[key];
    return Math.min(Math.max(y + dy, 0), SIDE - 1) * SIDE + Math.min(Math.max(x + dx, 0), SIDE - 1);
  }

  function setSize(value) {
    find("size").value = value;
    tell();
    run();
  }

  function setPlace(place) {
    state.place = place;
    tell();
    run();
  }

  function handPixel(canvas) {
    let start = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (!attack().byHand) return;
      canvas.setPointerCapture(event.pointerId);
      start = { y: event.clientY, value: Number(find("size").value) };
      setPlace(under(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (start === null) return;
      setSize(start.value + (start.y - event.clientY) / 100);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => (start = null));
    }
    canvas.addEventListener("keydown", (event) => {
      if (!attack().byHand) return;
      const place = step(event.key, state.place);
      const up = { "+": 0.1, "=": 0.1, "-": -0.1, "−": -0.1 }[event.key];
      if (place === null && up === undefined) return;
      event.preventDefault();
      if (place === null) setSize(Number(find("size").value) + up);
      else setPlace(place);
    });
  }

  // --- drawing --------------------------------------------------------------------------------------

  /** Ink around a place, as a pen of about two pixels leaves it. */
  function pen(place) {
    const [x, y] = [place % SIDE, Math.floor(place / SIDE)];
    for (let i = 0; i < paper.length; i++) {
      const distance = Math.hypot((i % SIDE) - x, Math.floor(i / SIDE) - y);
      paper[i] = Math.max(paper[i], Math.min(Math.max(1.7 - distance, 0), 1));
    }
  }

  function rub(place) {
    for (let i = 0; i < paper.length; i++) {
      if (Math.hypot((i % SIDE) - (place % SIDE), Math.floor(i / SIDE) - Math.floor(place / SIDE)) < 1.5) paper[i] = 0;
    }
  }

  /** What was drawn, moved so that its centre of ink is in the middle. */
  function centred() {
    let [total, x, y] = [0, 0, 0];
    paper.forEach((value, i) => {
      total += value;
      x += value * (i % SIDE);
      y += value * Math.floor(i / SIDE);
    });
    if (total === 0) return Float32Array.from(paper);
    const [dx, dy] = [x, y].map((sum) => Math.round(SIDE / 2 - sum / total));
    return paper.map((_, i) => {
      const [column, row] = [(i % SIDE) - dx, Math.floor(i / SIDE) - dy];
      return column >= 0 && column < SIDE && row >= 0 && row < SIDE ? paper[row * SIDE + column] : 0;
    });
  }

  function drawn() {
    const context = draw(find("pad"), paper, SIDE, ink);
    if (document.activeElement === find("pad")) mark(context, cursor);
    take(centred());
  }

  function handDrawing(canvas) {
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = cursor = under(event);
      pen(cursor);
      drawn();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (last === null) return;
      const now = under(event);
      const [x, y] = [last % SIDE, Math.floor(last / SIDE)];
      const [dx, dy] = [(now % SIDE) - x, Math.floor(now / SIDE) - y];
      const count = Math.max(Math.abs(dx), Math.abs(dy), 1);
      for (let n = 1; n <= count; n++) {
        pen(Math.round(y + (n * dy) / count) * SIDE + Math.round(x + (n * dx) / count));
      }
      last = cursor = now;
      drawn();
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => (last = null));
    }
    canvas.addEventListener("keydown", (event) => {
      const place = step(event.key, cursor);
      if (place !== null) cursor = place;
      else if (event.key === " ") pen(cursor);
      else if (event.key === "Delete" || event.key === "Backspace") rub(cursor);
      else return;
      event.preventDefault();
      drawn();
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, drawn);
  }

  // --- the page -------------------------------------------------------------------------------------

  function choice(name, picture, chosen) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "digit", value: name });
    input.setAttribute("aria-label", name);
    input.addEventListener("change", chosen);
    label.append(input, picture);
    find("digits").append(label);
    return input;
  }

  function build() {
    const given = PLAYGROUND.digits.map((text) =>
      Float32Array.from(atob(text), (letter) => letter.charCodeAt(0) / 255));
    const inputs = given.map((image, i) => {
      const picture = document.createElement("canvas");
      draw(picture, image, SIDE, ink);
      return choice(`${PLAYGROUND.label}, number ${i + 1}`, picture, () => {
        find("drawing").hidden = true;
        take(image);
      });
    });
    const own = document.createElement("span");
    own.textContent = "draw";
    choice("draw one", own, () => {
      find("drawing").hidden = false;
      drawn();
    });

    for (const [name, { title }] of Object.entries(ATTACKS)) find("attack").append(option(name, title));
    find("target").append(option("any", "any other digit"));
    for (let digit = 0; digit < model.classes; digit++) find("target").append(option(digit, digit));
    find("target").value = "6";
    for (let digit = 0; digit < model.classes; digit++) {
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

    const again = () => {
      offer();
      take(state.original);
    };
    find("attack").addEventListener("change", again);
    find("target").addEventListener("change", () => take(state.original));
    find("size").addEventListener("input", () => {
      tell();
      if (attacked() || attack().byHand) run();
    });
    find("run").addEventListener("click", run);
    find("undo").addEventListener("click", () => take(state.original));
    find("wipe").addEventListener("click", () => {
      paper.fill(0);
      drawn();
    });
    handPixel(find("result"));
    handDrawing(find("pad"));

    // Light or dark as it was chosen in the book, which keeps it here.
    let theme = null;
    try {
      theme = localStorage.getItem("theme");
    } catch {
      // Not to be had where cookies are blocked.
    }
    if (theme !== "light" && theme !== "dark") {
      theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    }
    document.documentElement.dataset.theme = theme;

    inputs[0].checked = true;
    state.original = given[0];
    offer();
    take(given[0]);
    find("playground").hidden = false;
  }

  build();
  return { state };
})();
