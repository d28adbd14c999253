// Model cards: the Markdown that a card consists of, as elements. Anything else stays the text that it is.

function cardElement(text) {
  const lines = text.split("\n");
  const card = element("article", { class: "card" });
  let next = 0;
  if (lines[0] === "---") {
    const end = lines.indexOf("---", 1);
    card.append(folded("Metadata", () => element("pre", {}, lines.slice(1, end).join("\n"))));
    next = end + 1;
  }
  while (next < lines.length) {
    const line = lines[next];
    const heading = /^(#{1,4}) (.*)$/.exec(line);
    const fence = /^(`{3,})/.exec(line);
    const from = next++;
    if (heading) {
      card.append(element(`h${Math.min(6, heading[1].length + 3)}`, {}, inline(heading[2])));
    } else if (fence) {
      while (next < lines.length && lines[next] !== fence[1]) next++;
      card.append(element("pre", {}, lines.slice(from + 1, next++).join("\n")));
    } else if (line.startsWith("| ")) {
      while (next < lines.length && lines[next].startsWith("| ")) next++;
      card.append(cardTable(lines.slice(from, next)));
    } else if (line.startsWith("- ")) {
      while (next < lines.length && lines[next].startsWith("- ")) next++;
      card.append(element("ul", {}, lines.slice(from, next).map((item) => element("li", {}, inline(item.slice(2))))));
    } else if (line.trim()) {
      while (next < lines.length && lines[next].trim() && !/^([#|`-])/.test(lines[next])) next++;
      card.append(element("p", {}, inline(lines.slice(from, next).join(" "))));
    }
  }
  return card;
}

function cardTable(lines) {
  const rows = lines.map((line) => line.slice(1, line.lastIndexOf("|")).split(/(?<!\\)\|/).map((cell) => cell.trim()));
  const isNumber = rows[1].map((rule) => rule.endsWith(":"));
  const cells = (tag, row) => row.map((cell, i) => element(tag, { class: isNumber[i] ? "number" : "" }, inline(cell)));
  return scroller("Table of the card", element("table", {}, element("thead", {}, element("tr", {}, cells("th", rows[0]))),
    element("tbody", {}, rows.slice(2).map((row) => element("tr", {}, cells("td", row))))));
}

const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">" };

function inline(text) {
  const parts = [];
  const pattern = /`([^`]+)`|\*\*((?:\\.|[^*\\])+)\*\*|\*((?:\\.|[^*\\])+)\*|(!?)\[((?:\\.|[^\]\\])*)\]\(([^)\s]*)\)|\\([!-/:-@[-`{-~])|(&(?:amp|lt|gt);)/g;
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    parts.push(text.slice(end, match.index));
    end = match.index + match[0].length;
    const [, code, strong, emphasis, picture, link, , escaped, entity] = match;
    if (code !== undefined) parts.push(element("code", {}, code));
    else if (strong !== undefined) parts.push(element("strong", {}, inline(strong)));
    else if (emphasis !== undefined) parts.push(element("em", {}, inline(emphasis)));
    else if (picture) continue; // this page draws its own
    else if (link !== undefined) parts.push(...inline(link)); // its text: this page leads nowhere else
    else parts.push(escaped ?? ENTITIES[entity]);
  }
  return [...parts, text.slice(end)].filter((part) => part !== "");
}
