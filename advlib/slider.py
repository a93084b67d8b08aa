"""Figures under a slider, for a cell whose value the reader moves."""

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from advlib._checks import check_integer

# Runs where the output is shown: on the site, in JupyterLab, in Colab. Only then is there anything to
# move; where scripts do not run, the one frame in the markup stays, a plain figure.
_SCRIPT = """
(() => {
  const box = document.currentScript.previousElementSibling;
  const { label, start, frames } = FRAMES;
  const picture = box.querySelector("img");
  const first = picture.src;
  const row = document.createElement("label");
  row.style.cssText = "display: flex; gap: 0.75em; align-items: center; max-width: 44em";
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: frames.length - 1, value: start });
  slider.style.cssText = "flex: 1; min-width: 0; min-height: 2em; margin: 4px";
  const shown = document.createElement("output");
  shown.style.cssText = "min-width: 4em; font-variant-numeric: tabular-nums";
  const opened = async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    return image;
  };
  const drawn = async (png) => {  // what a frame changes, on the first one
    const canvas = document.createElement("canvas");
    for (const source of [first, "data:image/png;base64," + png]) {
      const image = await opened(source);
      if (source === first) Object.assign(canvas, { width: image.width, height: image.height });
      canvas.getContext("2d").drawImage(image, 0, 0);
    }
    return canvas.toDataURL();
  };
  const show = async () => {
    const at = slider.value;
    const frame = frames[at];
    shown.textContent = frame.value;
    slider.setAttribute("aria-valuetext", frame.value);
    frame.source ??= frame.png ? await drawn(frame.png) : first;
    if (at !== slider.value) return;  // moved on meanwhile
    picture.src = frame.source;
    picture.alt = frame.description;
    picture.dataset.frame = at;
  };
  slider.addEventListener("input", show);
  row.append(label, slider, shown);
  box.append(row);
  show();
})();
"""


class Slider:
    """Figures of one kind, drawn beforehand, that a slider leafs through.

    As the last line of a cell it is shown as a picture with a slider below; without JavaScript it is
    the picture at which the slider starts. It needs no kernel, no network and no extension.

    Parameters
    ----------
    frames : sequence of (value, figure, description)
        From left to right: what stands beside the slider, the figure there, all of one size, and
        what it shows for those who cannot see it.
    label : str
        Name of what the slider moves.
    start : int
        Index of the frame that is shown first.

    Raises
    ------
    ValueError
        If there are fewer than two frames, the figures differ in size, a description is empty, or
        `start` is no frame's index.
    """

    def __init__(self, frames: Sequence[tuple[str, Figure, str]], *, label: str, start: int = 0) -> None:
        if len(frames) < 2:
            raise ValueError(f"frames must be at least two, got {len(frames)}")
        sizes = {tuple(figure.get_size_inches() * figure.dpi) for _, figure, _ in frames}
        if len(sizes) > 1:
            raise ValueError(f"frames must be figures of one size, got {sorted(sizes)} pixels")
        if not all(description.strip() for *_, description in frames):
            raise ValueError("frames must each have a description")
        self.label = label
        self.start = check_integer(start, "start", low=0, high=len(frames) - 1)
        pixels = [_pixels(figure) for _, figure, _ in frames]
        first = pixels[self.start]
        # Of all frames but the first shown, only what differs from it: a fraction of the bytes.
        changes = [np.where((each != first).any(axis=-1, keepdims=True), each, 0) for each in pixels]
        changes[self.start] = first
        self.frames = [
            {"value": value, "png": _png(change), "description": description}
            for (value, _, description), change in zip(frames, changes, strict=True)
        ]

    def __repr__(self) -> str:
        return f"Slider({self.label}: {self.frames[0]['value']} to {self.frames[-1]['value']})"

    def _repr_html_(self) -> str:
        first = self.frames[self.start]
        frames = list(self.frames)
        frames[self.start] = {**first, "png": ""}  # it is in the markup
        content = {"label": self.label, "start": self.start, "frames": frames}
        # "</" would end the script wherever it stands.
        script = _SCRIPT.replace("FRAMES", json.dumps(content, ensure_ascii=False).replace("</", r"<\/"))
        return (
            '<div class="slider">'
            f'<img src="data:image/png;base64,{first["png"]}" alt="{html.escape(first["description"])}">'
            f"</div><script>{script}</script>"
        )


def _pixels(figure: Figure) -> np.ndarray:
    """The figure at its own size and resolution, uint8 (height, width, 4), opaque."""
    file = io.BytesIO()
    *face, opacity = map(float, to_rgba(figure.get_facecolor()))
    on_white = [opacity * value + 1 - opacity for value in face]
    with matplotlib.rc_context({"savefig.bbox": None, "savefig.transparent": False}):
        figure.savefig(file, format="png", dpi="figure", facecolor=on_white)
    file.seek(0)
    return np.round(255 * matplotlib.image.imread(file)).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    """An image, uint8 (height, width, 4), as PNG in base64."""
    file = io.BytesIO()
    without: dict[str, Any] = {"Software": None}  # no version: the same figure gives the same bytes
    matplotlib.image.imsave(file, pixels, format="png", metadata=without)
    return base64.b64encode(file.getvalue()).decode()
