// A small picture of the whole waterfall, with the scrolled area marked. A click or drag scrolls.
import { svg } from "./rows";
import type { Look } from "./rows";
import type { Trace } from "./trace";

const WIDTH = 1000;
const HEIGHT = 56;
const FAILED = 254;
const MATCH = 255;

export class Minimap {
  readonly #area = svg("rect", { x: 0, width: WIDTH });

  constructor(
    readonly picture: SVGElement,
    readonly scroller: HTMLElement,
    readonly look: Look,
    signal: AbortSignal,
  ) {
    const scroll = (event: PointerEvent): void => {
      const box = picture.getBoundingClientRect();
      const share = (event.clientY - box.top) / box.height;
      scroller.scrollTop = share * scroller.scrollHeight - scroller.clientHeight / 2;
    };
    picture.addEventListener("pointerdown", (event) => {
      picture.setPointerCapture(event.pointerId);
      scroll(event);
    }, { signal });
    picture.addEventListener("pointermove", (event) => {
      if (picture.hasPointerCapture(event.pointerId)) scroll(event);
    }, { signal });
  }

  // Each line of the picture shows several rows: a failed span hides others, and a found one hides all.
  draw(trace: Trace, matches: ReadonlySet<number>): void {
    const { columns, visible } = trace;
    const lines = Math.min(HEIGHT, visible.length);
    const pixels = new Uint8Array(WIDTH * lines);
    visible.forEach((row, place) => {
      const hue = this.look.hues[columns.services[columns.service[row]!]!] ?? 0;
      const colour = matches.has(row) ? MATCH : trace.failed.has(row) ? FAILED : hue + 1;
      const line = Math.floor((place * lines) / visible.length) * WIDTH;
      const start = Math.min(Math.floor((columns.left[row]! * WIDTH) / 100), WIDTH - 1);
      const end = Math.max(start + 2, Math.ceil(((columns.left[row]! + columns.width[row]!) * WIDTH) / 100));
      for (let x = start; x < Math.min(end, WIDTH); x++) pixels[line + x] = Math.max(pixels[line + x]!, colour);
    });
    const paths = new Map<number, string>();
    for (let line = 0; line < lines; line++) {
      const y = ((line + 0.5) * HEIGHT) / lines;
      for (let x = 0, start = 0; x < WIDTH; x = start) {
        const colour = pixels[line * WIDTH + x]!;
        for (start = x + 1; start < WIDTH && pixels[line * WIDTH + start] === colour; start++);
        if (colour) paths.set(colour, `${paths.get(colour) ?? ""}M${x} ${y.toFixed(1)}H${start}`);
      }
    }
    const names = new Map([[FAILED, "failed"], [MATCH, "matches"]]);
    const drawn = [...paths].map(([colour, d]) =>
      svg("path", { class: names.get(colour) ?? `hue-${colour - 1}`, d, "stroke-width": HEIGHT / lines }));
    this.picture.replaceChildren(...drawn, this.#area);
    this.markArea();
  }

  markArea(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.#area.setAttribute("y", String((scrollTop / scrollHeight) * HEIGHT));
    this.#area.setAttribute("height", String(Math.max((clientHeight / scrollHeight) * HEIGHT, 3)));
  }
}
