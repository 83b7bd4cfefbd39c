import { useGet } from "./api";
import type { Call, PlotData, Providers } from "./shapes";
import { seconds } from "./times";

/** How it goes at this moment, in five numbers. */
export function Figures() {
  const calls = useGet<Call[]>("/api/calls").data;
  const permits = useGet<Providers>("/api/providers").data?.permits;
  const series = useGet<PlotData>("/api/plots?minutes=60").data?.series;
  const failed = (series?.failovers ?? []).reduce<number>((sum, one) => sum + (one ?? 0), 0);
  const numbers = [
    { name: "Calls", value: calls?.length },
    { name: "Turns a minute", value: latest(series?.turns_per_minute)?.toFixed(0) },
    { name: "Answer, p95", value: series && seconds(latest(series.e2e_p95_s)) },
    { name: "Failovers, 1 h", value: series && String(failed), bad: failed > 0 },
    {
      name: "LLM permits",
      value: permits && `${permits.in_flight} of ${permits.allowed}`,
      bad: (permits?.waiting ?? 0) > 0,
    },
  ];
  return (
    <dl className="figures">
      {numbers.map(({ name, value, bad }) => (
        <div key={name} data-bad={bad}>
          <dt>{name}</dt>
          <dd className="number">{value ?? "–"}</dd>
        </div>
      ))}
    </dl>
  );
}

/** The last value that was measured. */
export function latest(series: (number | null)[] | undefined): number | null {
  return series?.filter((value) => value !== null).at(-1) ?? null;
}
