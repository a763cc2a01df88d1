// SPDX-License-Identifier: Apache-2.0
// Small SVG charts: a line over the last minutes, and a bar.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 48;

export function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** at: seconds before now (negative, rising); values: from 0 to top. A gap of the samples is a gap of the line. */
export function line(kind, at, values, top, title) {
  const span = Math.max(60, at.length ? -at[0] : 0);
  const x = (t) => WIDTH * (1 + t / span);
  const y = (v) => HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, Math.max(0, top > 0 ? v / top : 0));
  const runs = [];
  at.forEach((t, i) => {
    if (i === 0 || t - at[i - 1] > 10) runs.push([]);
    runs[runs.length - 1].push([x(t), y(values[i])]);
  });
  const text = (points) => points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ");
  const drawn = runs.flatMap((points) => [
    svg("polygon", { class: "area",
      points: `${points[0][0].toFixed(1)},${HEIGHT} ${text(points)} ${points.at(-1)[0].toFixed(1)},${HEIGHT}` }),
    svg("polyline", { class: "line", points: text(points) }),
  ]);
  return svg("svg", { class: `chart ${kind}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
    role: "img", "aria-label": title }, ...drawn);
}

/** Two amounts of one whole: what is used lies over what is leased. */
export function bar(used, leased, whole, title) {
  const part = (v) => (whole > 0 ? Math.min(100, (100 * v) / whole) : 0).toFixed(2);
  return svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": title },
    svg("rect", { class: "leased", width: part(leased), height: 8 }),
    svg("rect", { class: "used", width: part(used), height: 8 }));
}
