// After the formulas are typeset: no line begins with the punctuation that follows one, and one that is wider
// than the page scrolls by itself.

const PUNCTUATION = /^[.,;:!?)\]’”]+/;

function joinPunctuation(formula) {
  const text = formula.nextSibling;
  const mark = text?.nodeType === Node.TEXT_NODE && text.data.match(PUNCTUATION);
  if (!mark) return;
  const pair = document.createElement("span");
  pair.className = "formula-pair";
  text.splitText(mark[0].length);
  formula.replaceWith(pair);
  pair.append(formula, text);
}

function markWide(formula) {
  const box = formula.closest("p, li, td, th, dd, figcaption, h1, h2, h3") ?? formula.parentElement;
  const drawing = formula.querySelector("mjx-container > svg");
  const wide = drawing && drawing.getBoundingClientRect().width > box.clientWidth - 24;
  formula.classList.toggle("formula-wide", Boolean(wide));
}

document.addEventListener("DOMContentLoaded", () => {
  window.MathJax?.startup?.promise?.then(() => {
    const formulas = [...document.querySelectorAll("span.math")];
    formulas.forEach(joinPunctuation);
    const mark = () => formulas.forEach(markWide);
    mark();
    window.addEventListener("resize", mark);
  });
});
