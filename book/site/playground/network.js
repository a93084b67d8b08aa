/* The book's classifier in the browser: logits, gradients with respect to the image, and attacks.

   Images are Float32Array of height × width pixels from 0 (paper) to 1 (ink), row by row. Sums are made in
   double precision; gradients and logits agree with Keras's to its rounding errors (tests/test_playground.py).
   The attacks are those of advlib, for one image: the docstrings there say what they do and whose they are. */

"use strict";

const Network = (() => {
  /** Numbers of a little-endian float32 array in base64. */
  function decode(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }

  /** Convolution with ReLU; `layer` holds shapes, offsets of its padding, kernel (k, k, in, out) and bias. */
  function convolve(layer, input, output) {
    const { size, depth, outSize, outDepth, stride, pad, width: k, kernel, bias } = layer;
    for (let row = 0, at = 0; row < outSize; row++) {
      for (let column = 0; column < outSize; column++, at += outDepth) {
        for (let out = 0; out < outDepth; out++) output[at + out] = bias[out];
        for (let dy = 0; dy < k; dy++) {
          const y = row * stride + dy - pad;
          if (y < 0 || y >= size) continue;
          for (let dx = 0; dx < k; dx++) {
            const x = column * stride + dx - pad;
            if (x < 0 || x >= size) continue;
            const from = (y * size + x) * depth;
            for (let i = 0; i < depth; i++) {
              const value = input[from + i];
              if (value === 0) continue; // paper, and what ReLU cut off: most of it
              const weights = ((dy * k + dx) * depth + i) * outDepth;
              for (let out = 0; out < outDepth; out++) output[at + out] += value * kernel[weights + out];
            }
          }
        }
        for (let out = 0; out < outDepth; out++) if (output[at + out] < 0) output[at + out] = 0;
      }
    }
  }

  /** Gradient by the input of a convolution from that by its output; `output` tells where ReLU let through. */
  function convolveBack(layer, output, upstream, gradient) {
    const { size, depth, outSize, outDepth, stride, pad, width: k, kernel } = layer;
    gradient.fill(0);
    const live = new Int32Array(outDepth);
    for (let row = 0, at = 0; row < outSize; row++) {
      for (let column = 0; column < outSize; column++, at += outDepth) {
        let count = 0;
        for (let out = 0; out < outDepth; out++) {
          if (output[at + out] > 0 && upstream[at + out] !== 0) live[count++] = out;
        }
        if (count === 0) continue;
        for (let dy = 0; dy < k; dy++) {
          const y = row * stride + dy - pad;
          if (y < 0 || y >= size) continue;
          for (let dx = 0; dx < k; dx++) {
            const x = column * stride + dx - pad;
            if (x < 0 || x >= size) continue;
            const to = (y * size + x) * depth;
            for (let i = 0; i < depth; i++) {
              const weights = ((dy * k + dx) * depth + i) * outDepth;
              let sum = 0;
              for (let n = 0; n < count; n++) sum += kernel[weights + live[n]] * upstream[at + live[n]];
              gradient[to + i] += sum;
            }
          }
        }
      }
    }
  }

  class Classifier {
    /** From what the build exported: convolutions in their order, then the dense layer. */
    constructor({ size, convolutions, dense }) {
      this.size = size;
      let shape = { size, depth: 1 };
      this.layers = convolutions.map(({ name, width, stride, same, filters, kernel, bias }) => {
        const pad = same ? (width - 1) / 2 : 0; // of a stride of 1
        const outSize = Math.floor((shape.size + 2 * pad - width) / stride) + 1;
        const layer = { ...shape, name, width, stride, pad, outSize, outDepth: filters };
        shape = { size: outSize, depth: filters };
        return { ...layer, kernel: decode(kernel), bias: decode(bias) };
      });
      this.kernel = decode(dense.kernel); // (values, classes)
      this.bias = decode(dense.bias);
      this.classes = this.bias.length;
      this.buffers = this.layers.map((layer) => new Float64Array(layer.size ** 2 * layer.depth));
      this.buffers.push(new Float64Array(shape.size ** 2 * shape.depth));
    }

    /** Logits of an image, and the activations of each convolution, by its name: new arrays. */
    run(image) {
      const activations = {};
      let input = image;
      for (const layer of this.layers) {
        const output = new Float64Array(layer.outSize ** 2 * layer.outDepth);
        convolve(layer, input, output);
        activations[layer.name] = input = output;
      }
      const logits = Float64Array.from(this.bias);
      for (let i = 0, at = 0; i < input.length; i++, at += this.classes) {
        if (input[i] === 0) continue;
        for (let k = 0; k < this.classes; k++) logits[k] += input[i] * this.kernel[at + k];
      }
      return { logits, activations };
    }

    /** Gradient of the sum of the logits, each times its weight, by the image on which they were computed. */
    gradient({ activations }, weights) {
      const last = this.buffers[this.layers.length];
      for (let i = 0, at = 0; i < last.length; i++, at += this.classes) {
        let sum = 0;
        for (let k = 0; k < this.classes; k++) sum += weights[k] * this.kernel[at + k];
        last[i] = sum;
      }
      for (let n = this.layers.length - 1; n >= 0; n--) {
        const layer = this.layers[n];
        convolveBack(layer, activations[layer.name], this.buffers[n + 1], this.buffers[n]);
      }
      return Float64Array.from(this.buffers[0]);
    }
  }

  function softmax(logits) {
    const most = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - most));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  }

  /** The first place of the largest value. */
  function argmax(values) {
    let best = 0;
    for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
    return best;
  }

  /** Weights of the logits: a positive multiple of the cross-entropy's gradient, which does not vanish. */
  function uphill(logits, label) {
    const others = Array.from(logits, (logit, k) => (k === label ? -Infinity : logit));
    return softmax(others).map((share, k) => (k === label ? -1 : share));
  }

  const clip = (value, low, high) => Math.min(Math.max(value, low), high);

  /** The images after each step of iterated FGSM; one step of size epsilon is FGSM.

      `target` is null for any class but the label. */
  function* iterativeFgsm(model, image, { label, target, epsilon, stepSize, steps }) {
    const size = target === null ? stepSize : -stepSize;
    let attacked = image;
    for (let step = 0; step < steps; step++) {
      const state = model.run(attacked);
      const gradient = model.gradient(state, uphill(state.logits, target === null ? label : target));
      attacked = attacked.map((pixel, i) => {
        const low = Math.max(image[i] - epsilon, 0);
        const high = Math.min(image[i] + epsilon, 1);
        return clip(pixel + size * Math.sign(gradient[i]), low, high);
      });
      yield attacked;
    }
  }

  /** The two pixels of the largest product of gain and drop, summed over both; null where none has one. */
  function bestPair(gain, drop, free) {
    let pair = null;
    let score = 0;
    for (let a = 0; a < free.length; a++) {
      const i = free[a];
      for (let b = a + 1; b < free.length; b++) {
        const k = free[b];
        const gains = gain[i] + gain[k];
        const drops = drop[i] + drop[k];
        if (gains > 0 && drops > 0 && gains * drops > score) {
          score = gains * drops;
          pair = [i, k];
        }
      }
    }
    return pair;
  }

  /** The images after each iteration of JSMA with pairs: until the target is read, no pair qualifies, or
      so many pixels are changed. */
  function* jsma(model, image, { target, pixels }) {
    let attacked = image;
    for (let step = 0; step < Math.floor(pixels / 2); step++) {
      const state = model.run(attacked);
      if (argmax(state.logits) === target) return;
      const only = Array.from(state.logits, (_, k) => Number(k === target));
      const gain = model.gradient(state, only);
      const drop = model.gradient(state, only.map((own) => own - 1));
      const free = [...attacked.keys()].filter((i) => attacked[i] < 1);
      const pair = bestPair(gain, drop, free);
      if (pair === null) return;
      attacked = attacked.map((pixel, i) => (pair.includes(i) ? 1 : pixel));
      yield attacked;
    }
  }

  /** The control: every pixel moved by epsilon, up or down by signs of 1 and -1, and kept within 0 and 1. */
  function* randomNoise(image, { epsilon, signs }) {
    yield image.map((pixel, i) => clip(pixel + signs[i] * epsilon, 0, 1));
  }

  return { Classifier, argmax, iterativeFgsm, jsma, randomNoise, softmax };
})();
