// Searching and sorting of tables. Without it the page shows the same, in the order of time.
"use strict";
for (const table of document.querySelectorAll("table.list")) {
  const body = table.tBodies[0];
  const search = document.querySelector(`input[data-for="${table.id}"]`);
  const count = document.querySelector(`output[data-for="${table.id}"]`);
  const rows = Array.from(body.rows);
  const say = (n) => { count.textContent = n === rows.length ? `${n} rows` : `${n} of ${rows.length} rows`; };
  search.addEventListener("input", () => {
    // Every word has to be there, in any order.
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      n += row.hidden ? 0 : 1;
    }
    say(n);
  });
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const of = (row) => row.cells[column].textContent;
      // A dash is none.
      const number = (text) => Number(text.replaceAll("\u202f", "")) || 0;
      const isNumber = head.classList.contains("n");
      const compare = isNumber
        ? (a, b) => number(of(a)) - number(of(b))
        : (a, b) => (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : 0);
      const sorted = rows.slice().sort((a, b) => (up ? compare(a, b) : compare(b, a)));
      body.append(...sorted);
    });
  });
  say(rows.length);
}
