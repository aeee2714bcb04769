"use strict";
// Every table can be copied, and saved as CSV with all digits; nothing is fetched or sent.
function csvOf(table) {
  const quote = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const exact = (cell) => (cell.querySelector("data") ? cell.querySelector("data").value
    : cell.textContent === "-" ? "" : cell.textContent);
  const rows = [...table.rows].map((row) => [...row.cells].map((cell) => quote(exact(cell))).join(","));
  return `${rows.join("\n")}\n`;
}
function button(text, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", () => action(made));
  return made;
}
function save(table) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csvOf(table)], { type: "text/csv" }));
  link.download = `${table.dataset.name}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
async function copy(table, made) {
  const text = csvOf(table);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  made.textContent = "Copied";
  setTimeout(() => { made.textContent = "Copy"; }, 1500);
}
for (const table of document.querySelectorAll("table")) {
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(button("Copy", (made) => copy(table, made)), button("Download CSV", () => save(table)));
  table.parentElement.after(tools);
}
