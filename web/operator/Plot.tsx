import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import { latest } from "./Figures";
import type { PlotData } from "./shapes";

const HEIGHT_PX = 180;
const AXIS_PX = 44;

/** A series. `colour`: a variable of the stylesheet. */
export interface Line {
  label: string;
  colour: string;
  values: (number | null)[];
}

/** Series over time, and what they are now in words. */
export function Plot({ title, unit = "", data, lines, bars = false }: {
  title: string;
  unit?: string;
  data: PlotData;
  lines: Line[];
  bars?: boolean;
}) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const dark = useDark();
  const drawn = lines.map(({ label }) => label).join();

  useEffect(() => {
    const place = box.current;
    if (!place) return;
    const made = new uPlot(options(place, lines, bars), aligned(data, lines), place);
    chart.current = made;
    const watch = new ResizeObserver(() =>
      made.setSize({ width: place.clientWidth, height: HEIGHT_PX }),
    );
    watch.observe(place);
    return () => {
      watch.disconnect();
      made.destroy();
    };
  }, [dark, drawn, bars]); // data that changes is set below

  useEffect(() => chart.current?.setData(aligned(data, lines)), [data, lines]);

  return (
    <figure className="card plot">
      <figcaption>
        <h2>{title}</h2>
        <ul>
          {lines.map(({ label, colour, values }) => (
            <li key={label}>
              <i data-colour={colour} aria-hidden="true" />
              {label} <b className="number">{told(latest(values), unit)}</b>
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={box} className="canvas" role="img" aria-label={summary(title, unit, lines)} />
    </figure>
  );
}

/** "Answers: p50 now 0.71 s, at most 1.20 s": what there is to see, for who does not see it. */
function summary(title: string, unit: string, lines: Line[]): string {
  const each = lines.map(({ label, values }) => {
    const most = Math.max(0, ...values.map((value) => value ?? 0));
    return `${label} now ${told(latest(values), unit)}, at most ${told(most, unit)}`;
  });
  return `${title}: ${each.join("; ")}`;
}

function told(value: number | null, unit: string): string {
  if (value === null) return "–";
  return unit ? `${value.toFixed(2)} ${unit}` : String(Math.round(value * 10) / 10);
}

function aligned({ from, step_s }: PlotData, lines: Line[]): uPlot.AlignedData {
  const length = Math.max(0, ...lines.map(({ values }) => values.length));
  const times = Array.from({ length }, (_, at) => from + at * step_s);
  return [times, ...lines.map(({ values }) => times.map((_, at) => values[at] ?? null))];
}

function options(place: HTMLElement, lines: Line[], bars: boolean): uPlot.Options {
  const style = getComputedStyle(place);
  const colour = (name: string) => resolved(place, name);
  const axis = {
    stroke: colour("--quiet"),
    font: `12px ${style.fontFamily}`,
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: place.clientWidth,
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, bars ? 4 : 0.5)] } },
    axes: [
      { ...axis, size: 28, values: "{HH}:{mm}", space: 64 },
      { ...axis, size: AXIS_PX, ...(bars ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] } : {}) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: bars ? 0 : 2,
        fill: bars ? colour(line.colour) : undefined,
        points: { show: !bars && lonely(line.values), size: 5, fill: colour(line.colour) },
        paths: bars ? uPlot.paths.bars?.({ size: [0.7, 24] }) : undefined,
        spanGaps: true,
      })),
    ],
  };
}

/** Whether a line would hide what was measured: a point without neighbours has none. */
function lonely(values: (number | null)[]): boolean {
  return values.filter((value) => value !== null).length < 3;
}

/** The colour that a variable stands for now: a canvas knows no light-dark(). */
function resolved(place: HTMLElement, name: string): string {
  const probe = document.createElement("i");
  probe.dataset.colour = name;
  place.append(probe);
  const colour = getComputedStyle(probe).backgroundColor;
  probe.remove();
  return colour;
}

function useDark(): boolean {
  const [dark, setDark] = useState(false);
  useEffect(() => {
    const query = window.matchMedia("(prefers-color-scheme: dark)");
    const look = () => setDark(query.matches);
    look();
    query.addEventListener("change", look);
    return () => query.removeEventListener("change", look);
  }, []);
  return dark;
}
