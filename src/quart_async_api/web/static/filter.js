// The filter of /docs and of /console/try: shows the lines that contain every word.

const filter = document.getElementById("filter");
const input = filter.querySelector("input");
const status = filter.querySelector("[role=status]");
const lines = [...document.querySelectorAll("article.operation")].map((article) => ({ article, text: article.textContent.toLowerCase() }));
const groups = [...document.querySelectorAll("main section:has(article)")].map((section) => ({
  section,
  link: document.querySelector(`.tags a[href="#${section.id}"]`),
}));

function apply() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { article, text } of lines) {
    const fits = words.every((word) => text.includes(word));
    article.hidden = !fits;
    shown += fits;
  }
  for (const { section, link } of groups) {
    section.hidden = link.hidden = !section.querySelector("article:not([hidden])");
  }
  status.textContent = words.length ? `${shown} of ${lines.length}` : "";
}

input.addEventListener("input", apply);
// A link to a line that the filter hides shows it.
function show() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target?.querySelector(":scope > details");
  if (details) details.open = true;
  if (target?.closest("[hidden]")) {
    input.value = "";
    apply();
    target.scrollIntoView();
  }
}
addEventListener("hashchange", show);
apply(); // the browser may have kept what was typed before a reload
if (location.hash) show();
