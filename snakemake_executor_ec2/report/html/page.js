"use strict";
// Sorting and searching the table of jobs. The page has everything without it.
(() => {
  const table = document.querySelector("#jobs table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const text = (row, column) => row.cells[column].textContent.trim();
  const number = (value) => {
    const bare = value.replace(/[$,%]/g, "");
    return bare !== "" && Number.isFinite(Number(bare)) ? Number(bare) : null;
  };
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numeric;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const keyed = rows.map((row) => [numeric ? number(text(row, column)) : text(row, column), row]);
      keyed.sort(([a], [b]) => {
        if (a === b) return 0;
        if (a === null) return 1;
        if (b === null) return -1;
        const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
        return up ? order : -order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
  const tools = document.querySelector("#jobs .tools");
  const input = tools.querySelector("input");
  const told = tools.querySelector("output");
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const content = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => content.includes(word));
      count += row.hidden ? 0 : 1;
    }
    told.textContent = words.length ? `${count} of ${rows.length}` : "";
  };
  input.addEventListener("input", show);
  tools.hidden = false;
})();
