// Fills in the facets that were not counted when the page was sent, one after the other, and copies the path.
"use strict";

async function fill() {
  for (const place of document.querySelectorAll("[data-facet]")) {
    try {
      const answer = await fetch(place.dataset.facet, { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(answer.statusText);
      const part = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("section");
      if (part === null) throw new Error("no facet");
      place.replaceWith(part);
    } catch (error) {
      place.removeAttribute("aria-busy");
    }
  }
}

const copy = document.getElementById("copy");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById("path").value);
    document.getElementById("said").textContent = "copied";
  });
}
fill();
