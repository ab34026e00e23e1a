// The filter of /docs and of /console/try: shows the routes that contain every word, in the page and in its index.

const filter = document.getElementById("filter");
const input = filter.querySelector("input");
const status = filter.querySelector("[role=status]");
const routes = [...document.querySelectorAll("article.operation")].map((article) => ({
  article,
  entry: document.querySelector(`.rail a[href="#${article.id}"]`).parentElement,
  text: article.textContent.toLowerCase(),
}));
const groups = [...document.querySelectorAll("main section:has(article)")].map((section) => ({
  section,
  entry: document.querySelector(`.rail a[href="#${section.id}"]`).parentElement,
}));

function apply() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { article, entry, text } of routes) {
    const fits = words.every((word) => text.includes(word));
    article.hidden = entry.hidden = !fits;
    shown += fits;
  }
  for (const { section, entry } of groups) {
    section.hidden = entry.hidden = !section.querySelector("article:not([hidden])");
  }
  status.textContent = words.length ? `${shown} of ${routes.length} routes` : "";
}

input.addEventListener("input", apply);
// A link to a route that the filter hides shows it.
function show() {
  const target = document.getElementById(location.hash.slice(1));
  const details = target?.querySelector(":scope > details");
  if (details) details.open = true;
  if (target?.closest("[hidden]")) {
    input.value = "";
    apply();
    target.scrollIntoView();
  }
}
addEventListener("hashchange", show);
filter.hidden = false;
apply(); // the browser may have kept what was typed before a reload
if (location.hash) show();
