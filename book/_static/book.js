// Mends what a screen reader would stumble over in the markup of the theme, MyST-NB and bibtex: names
// that differ from the visible text, and a list whose children are no list items.
for (const element of document.querySelectorAll(".search-button-field, details.hide > summary")) {
  element.removeAttribute("aria-label");
}
for (const element of document.querySelectorAll(".citation-list")) {
  element.removeAttribute("role");
}
