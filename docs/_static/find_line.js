// Finds a pasted line of a log on the page of errors and log lines.
//
// A pasted line has names, addresses and numbers that are on no page, and Sphinx shows only pages
// that have all words. So for a long query that finds nothing, the pages with most of its words are
// shown; and a link to the page of lines leads to the entry that has most of them.

"use strict";

const FindLine = {
  PAGE: "messages",

  // How many words make a query a line.
  LINE_WORDS: 4,

  // Which part of a line's words a page must have.
  MOST: 0.6,

  wordsOf: (text) => new Set(text.toLowerCase().match(/[a-z][a-z_]+/g) || []),

  // The best entries for a line: numbers of them in `texts`, the best first.
  //
  // A word counts for more the fewer entries have it. An entry has to have most of its own words
  // in the line, as the entry is what does not change; a long line may be made of several entries.
  best: (line, texts) => {
    const wanted = FindLine.wordsOf(line);
    const entries = texts.map(FindLine.wordsOf);
    const count = new Map();
    entries.forEach((entry) =>
      entry.forEach((word) => count.set(word, (count.get(word) || 0) + 1)),
    );
    const weight = (word) => Math.log(1 + entries.length / count.get(word));
    return entries
      .map((entry, number) => {
        let shared = 0;
        let all = 0;
        entry.forEach((word) => {
          all += weight(word);
          if (wanted.has(word)) shared += weight(word);
        });
        return { number, score: all ? (shared * shared) / all : 0 };
      })
      .filter((one) => one.score > 2)
      .sort((a, b) => b.score - a.score)
      .slice(0, 3)
      .map((one) => one.number);
  },

  // On the page of lines: go to the entry for a line.
  show: (line) => {
    const entries = [
      ...document.querySelectorAll("article dt, article td:first-child, article li"),
    ].filter((one) => one.querySelector("code"));
    document.querySelectorAll(".found-line").forEach((one) => one.classList.remove("found-line"));
    const found = FindLine.best(
      line,
      entries.map((one) => one.querySelector("code").textContent),
    ).map((number) => entries[number]);
    found.forEach((one) => one.classList.add("found-line"));
    if (found.length) found[0].scrollIntoView({ block: "center" });
    return found;
  },

  followHash: () => {
    const hash = window.location.hash;
    if (hash.startsWith("#line=")) {
      const line = decodeURIComponent(hash.slice("#line=".length));
      const input = document.querySelector("#find-line input");
      if (input) input.value = line;
      FindLine.show(line);
    }
  },

  onPage: () => {
    const place = document.getElementById("find-line");
    if (!place) return;
    const label = document.createElement("label");
    label.textContent = "Paste a line: ";
    const input = document.createElement("input");
    input.type = "search";
    label.append(input);
    const said = document.createElement("p");
    said.setAttribute("role", "status");
    input.addEventListener("input", () => {
      const found = input.value.trim() ? FindLine.show(input.value) : [];
      said.textContent = !input.value.trim()
        ? ""
        : found.length
          ? "The likeliest entries are marked; the best is shown."
          : "No entry has these words.";
    });
    place.append(label, said);
    window.addEventListener("hashchange", FindLine.followHash);
    FindLine.followHash();
  },

  // On the page of the search.
  onSearch: () => {
    const strict = Search.performTermsSearch;
    Search.performTermsSearch = (searchTerms, excludedTerms) => {
      const isLine = searchTerms.size >= FindLine.LINE_WORDS;
      let results = strict(searchTerms, excludedTerms);
      if (isLine && !results.length) results = FindLine.withMost(searchTerms);
      const line = new URLSearchParams(window.location.search).get("q");
      return results.map((result) => {
        const [page, title, , ...rest] = result;
        return isLine && page === FindLine.PAGE
          ? [page, title, "#line=" + encodeURIComponent(line), ...rest]
          : result;
      });
    };
  },

  withMost: (searchTerms) => {
    const { terms, titleterms, titles, docnames, filenames } = Search._index;
    const has = docnames.map(() => 0);
    const pagesWith = (word, index) => (Object.hasOwn(index, word) ? [index[word]].flat() : []);
    searchTerms.forEach((word) =>
      // A word of a title is not among those of the text.
      new Set([...pagesWith(word, terms), ...pagesWith(word, titleterms)]).forEach(
        (page) => has[page]++,
      ),
    );
    const most = Math.max(...has);
    return docnames.flatMap((name, page) =>
      has[page] >= most - 1 && has[page] >= FindLine.MOST * searchTerms.size
        ? [[name, titles[page], "", null, has[page], filenames[page], SearchResultKind.text]]
        : [],
    );
  },
};

if (typeof module !== "undefined") {
  module.exports = FindLine;
} else {
  // This runs before Sphinx's own script of the search begins, which comes later on the page.
  document.addEventListener("DOMContentLoaded", () => {
    if (typeof Search !== "undefined") FindLine.onSearch();
    FindLine.onPage();
  });
}
