// The list of jobs: one box selects all on the page.

document.addEventListener("change", ({ target }) => {
  if (!target.dataset?.all) return;
  for (const box of document.getElementsByName(target.dataset.all)) box.checked = target.checked;
});
