// The order of what the search finds (docs/conf.py: html_search_scorer). Sphinx gives every page
// that has the words the same score, and then sorts by the alphabet. What teaches and helps comes
// before what lists.
const LAST = { changelog: 3, from_0_2: 2, glossary: 2, settings: 1, wire_format: 2, architecture: 2,
  performance: 1, examples: 1, "api/": 2 };
const FIRST = { troubleshooting: 2, recipes: 2, installation: 2, quick_start: 1, security: 1 };

var Scorer = {
  score: ([docname, , , , score]) => {
    const rank = (table) =>
      Object.entries(table).find(([name]) => docname.startsWith(name))?.[1] ?? 0;
    return score + rank(FIRST) - rank(LAST);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
