/* Tables in which a person edits or writes examples. Python renders them (`templates/data/example_table.html`); the
   browser holds what is typed until it is saved, so that no other event of the page has to carry it. */
(() => {
  const table = (name) => document.querySelector(`#${name} .ft-examples`);
  const plain = (text) => text.replace(/\r\n?/g, "\n");
  const original = (field) => plain(field.dataset.original ?? field.defaultValue);
  const isChanged = (field) => field.value !== original(field);
  const fieldsOf = (part) => [...part.querySelectorAll("textarea")];

  // What is typed, by the role of each field: [{user, assistant, …}] of the new examples that are not empty.
  const newExamples = (part) =>
    [...part.querySelectorAll("tbody.ft-new")]
      .map((example) => Object.fromEntries(fieldsOf(example).map((field) => [field.dataset.role, field.value])))
      .filter((example) => Object.values(example).some((text) => text.trim()));

  const changeOf = (example) => {
    const texts = Object.fromEntries(
      fieldsOf(example).filter(isChanged).map((field) => [field.dataset.message, field.value]));
    const removed = example.classList.contains("ft-removed");
    return removed || Object.keys(texts).length ? {was: example.dataset.was, texts, removed} : null;
  };

  // The unsaved edits of a file: those of other pages (`draft`) with those of the page shown.
  const withPage = (shown, draft) => {
    const changes = {...draft?.changes};
    for (const example of shown.querySelectorAll("tbody[data-number]")) {
      const change = changeOf(example);
      if (change) changes[example.dataset.number] = change; else delete changes[example.dataset.number];
    }
    return {changes, added: newExamples(shown)};
  };
  const isEmpty = (draft) => !Object.keys(draft.changes).length && !draft.added.length;

  const counted = (count, word) => (count ? [`${count.toLocaleString("en")} ${word}`] : []);
  const inWords = (draft) => {
    const changes = Object.values(draft.changes), removed = changes.filter((change) => change.removed).length;
    return [...counted(changes.length - removed, "edited"), ...counted(removed, "removed"),
      ...counted(draft.added.length, "new")].join(", ");
  };

  const notSaved = () => {
    const shown = table("edit-table");
    if (!shown?.dataset.key) return "";
    return inWords(withPage(shown, JSON.parse(shown.dataset.draft)));
  };
  const say = (shown, text = "") => { shown.querySelector(".ft-note").textContent = text; };
  const refresh = (shown) => {
    const unsaved = shown.querySelector(".ft-unsaved");
    if (unsaved) {
      const words = notSaved();
      unsaved.hidden = !words;
      unsaved.querySelector("b").textContent = words;
    }
    shown.dataset.typed = shown.dataset.key === undefined && newExamples(shown).length ? "yes" : "";
  };

  const addLine = (shown) => {
    const line = shown.querySelector("template").content.firstElementChild.cloneNode(true);
    shown.querySelector("table").append(line);
    return line;
  };

  const toggleRemoved = (button) => {
    const example = button.closest("tbody"), shown = button.closest(".ft-examples");
    if (example.classList.contains("ft-new")) {
      example.remove();
      if (!shown.querySelector("tbody")) addLine(shown);
    } else {
      const removed = example.classList.toggle("ft-removed");
      fieldsOf(example).forEach((field) => { field.disabled = removed; });
      button.textContent = removed ? "Restore" : "Remove";
    }
    refresh(shown);
  };

  // Spreadsheets copy cells as text between tabs; a cell with line breaks or tabs is in quotation marks.
  const cellsOf = (text) => {
    const rows = [[]], pattern = /("(?:[^"]|"")*"(?=[\t\n]|$)|[^\t\n]*)(\t|\n|$)/y;
    const copied = plain(text).replace(/\n$/, "");
    for (let found; (found = pattern.exec(copied)); ) {
      const inner = found[1].slice(1, -1), isQuoted = /^"[^]*"$/.test(found[1]) && /[\t\n]|""/.test(inner);
      rows.at(-1).push(isQuoted ? inner.replaceAll('""', '"') : found[1]);
      if (!found[2]) break;
      if (found[2] === "\n") rows.push([]);
    }
    return rows;
  };
  const isTable = (data, text) => text.includes("\t") || /<table[\s>]/i.test(data.getData("text/html"));

  const pasteCells = (field, rows) => {
    const shown = field.closest(".ft-examples"), column = field.closest("td").cellIndex;
    const lines = [...shown.querySelectorAll("tr[data-line]")];
    const first = lines.indexOf(field.closest("tr"));
    let lost = 0;
    rows.forEach((texts, down) => {
      const line = lines[first + down] ?? addLine(shown).querySelector("tr");
      texts.forEach((text, right) => {
        const target = line.cells[column + right]?.querySelector("textarea:enabled");
        if (target) target.value = text; else if (text.trim()) lost += 1;
      });
    });
    refresh(shown);
    say(shown, lost ? `${lost.toLocaleString("en")} of the pasted cells had no place here and are not in the table.` : "");
  };

  document.addEventListener("input", (event) => {
    const shown = event.target.closest?.(".ft-examples");
    if (shown) refresh(shown);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".ft-examples button");
    if (!button) return;
    if (button.classList.contains("ft-add")) addLine(button.closest(".ft-examples")).querySelector("textarea").focus();
    else toggleRemoved(button);
  });
  document.addEventListener("paste", (event) => {
    const field = event.target.closest?.(".ft-examples textarea");
    const text = field && event.clipboardData.getData("text/plain");
    if (!text || !isTable(event.clipboardData, text)) return;
    event.preventDefault();
    pasteCells(field, cellsOf(text));
  });
  window.addEventListener("beforeunload", (event) => {
    const edited = table("edit-table"), written = table("write-table");
    if (notSaved() || edited?.dataset.others || written?.dataset.typed) event.preventDefault();
  });

  let wantedRow = null;  // what the table is to begin with when it is opened
  const request = (before, asked) => {
    const wanted = wantedRow ?? asked;
    wantedRow = null;
    const shown = table("edit-table"), drafts = {...before?.drafts};
    const {key, first, next, previous} = shown?.dataset ?? {};  // it is not there before it is opened
    if (key) {
      const draft = withPage(shown, drafts[key]);
      if (isEmpty(draft)) delete drafts[key]; else drafts[key] = draft;
    }
    const places = {here: first, next, previous, start: 0};
    return typeof wanted === "string" ? {drafts, first: Number(places[wanted] ?? 0)} : {drafts, row: wanted};
  };

  /* Show the page that begins with a row of the file. Any element with `data-edit-row` does this when it is clicked. */
  const showRow = (row) => {
    const box = document.querySelector("#edit"), header = box.querySelector("button.label-wrap");
    if (header.classList.contains("open")) {
      const field = document.querySelector("#edit-row :is(input, textarea)");
      field.value = row;
      field.dispatchEvent(new Event("input", {bubbles: true}));
      field.dispatchEvent(new KeyboardEvent("keypress", {key: "Enter", bubbles: true}));
    } else {
      wantedRow = row;
      header.click();
    }
    box.scrollIntoView();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-edit-row]");
    if (link) showRow(Number(link.dataset.editRow));
  });

  window.exampleTables = {
    /* The unsaved edits of every file by its key, and the page to show next: `{first}` or `{row}`. */
    request,
    showRow,
    /* The same if examples were being edited when other data was chosen; a copy is shown at the same place. */
    requestForOtherData: (before) => {
      if (!table("edit-table")?.dataset.first) throw Error("no examples are being edited");
      return request(before, table("edit-table").dataset.key ? "start" : "here");
    },
    /* The same without the edits of the file shown. */
    discard: (before) => {
      const shown = table("edit-table"), {[shown?.dataset.key]: discarded, ...drafts} = request(before, "here").drafts;
      if (discarded && !confirm("Discard all changes that are not saved?")) throw Error("the changes are kept");
      return {drafts, first: Number(shown?.dataset.first ?? 0)};
    },
    stopUnlessUnsaved: () => { if (!notSaved()) throw Error("nothing is unsaved"); },
    written: () => ({
      system: table("write-table").querySelector(".ft-system textarea").value,
      examples: [...table("write-table").querySelectorAll("tbody.ft-new")].map((example) =>
        Object.fromEntries(fieldsOf(example).map((field) => [field.dataset.role, field.value]))),
    }),
    markUsed: () => { table("write-table").dataset.typed = ""; },
  };
})();
