// Mends what a screen reader would stumble over in the markup of the theme, MyST-NB and bibtex: names
// that differ from the visible text, and a list whose children are no list items.
for (const element of document.querySelectorAll(".search-button-field, details.hide > summary")) {
  element.removeAttribute("aria-label");
}
for (const element of document.querySelectorAll(".citation-list")) {
  element.removeAttribute("role");
}

// An interval stands on one line, also in a narrow table.
for (const cell of document.querySelectorAll("table.dataframe td")) {
  cell.innerHTML = cell.innerHTML.replace(/\[[^\]]*\]/g, '<span class="whole">$&</span>');
}

// What scrolls can be reached with the keyboard.
for (const formula of document.querySelectorAll("div.math, div.math .katex-html")) {
  if (formula.scrollWidth > formula.clientWidth) {
    formula.tabIndex = 0;
  }
}

// Paper is light, and nothing on it unfolds.
const page = document.documentElement;
const unfolded = [];
let theme = "";
addEventListener("beforeprint", () => {
  theme = page.dataset.theme;
  page.dataset.theme = "light";
  for (const folded of document.querySelectorAll(".bd-article details:not([open])")) {
    folded.open = true;
    unfolded.push(folded);
  }
});
addEventListener("afterprint", () => {
  page.dataset.theme = theme;
  for (const folded of unfolded.splice(0)) {
    folded.open = false;
  }
});
