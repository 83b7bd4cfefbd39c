import { useEffect, useState } from "react";
import { useGet } from "./api";
import { Loaded, Nothing } from "./Loaded";
import { Plot, type Line } from "./Plot";
import type { PlotData } from "./shapes";
import { STAGES } from "./stages";

const HOUR_MIN = 60; // of which the server tells by itself
const SPANS = [
  { minutes: 15, label: "15 min" },
  { minutes: 60, label: "1 h" },
  { minutes: 360, label: "6 h" },
];

/** How it went in the last minutes or hours. */
export default function Plots() {
  const [minutes, setMinutes] = useState(HOUR_MIN);
  const hour = useGet<PlotData>(`/api/plots?minutes=${HOUR_MIN}`);
  const long = useGet<PlotData>(minutes > HOUR_MIN ? `/api/plots?minutes=${minutes}` : null);
  const plots = minutes > HOUR_MIN ? long : hour;
  const step = hour.data?.from;
  useEffect(() => void long.mutate(), [step]); // once a step of the hour
  return (
    <>
      <fieldset className="tools span">
        <legend className="visually-hidden">Span</legend>
        {SPANS.map((one) => (
          <label key={one.minutes} className="chip">
            <input
              type="radio"
              name="span"
              checked={minutes === one.minutes}
              onChange={() => setMinutes(one.minutes)}
            />
            {one.label}
          </label>
        ))}
      </fieldset>
      <Loaded from={plots}>
        {(data) => {
          const points = Object.values(data.series)[0]?.length ?? 0;
          if (points === 0) return <Nothing title="Nothing was measured yet." />;
          return <Grid data={cut(data, minutes)} />;
        }}
      </Loaded>
    </>
  );
}

function Grid({ data }: { data: PlotData }) {
  const line = (key: string, label: string, colour: string): Line => ({
    label,
    colour,
    values: data.series[key] ?? [],
  });
  const stages = STAGES.map(({ key, label }) => line(`${key}_p50_s`, label, `--stage-${key}`));
  const slow = STAGES.map(({ key, label }) => line(`${key}_p95_s`, label, `--stage-${key}`));
  return (
    <div className="plots">
      <Plot
        title="Answers"
        unit="s"
        data={data}
        lines={[line("e2e_p50_s", "p50", "--accent"), line("e2e_p95_s", "p95", "--fair")]}
      />
      <Plot
        title="Turns a minute"
        data={data}
        bars
        lines={[line("turns_per_minute", "turns", "--accent")]}
      />
      <Plot title="Stages, p50" unit="s" data={data} lines={stages.filter(measured)} />
      {slow.some(measured) && (
        <Plot title="Stages, p95" unit="s" data={data} lines={slow.filter(measured)} />
      )}
      <Plot title="Failovers" data={data} bars lines={[line("failovers", "failovers", "--bad")]} />
      <Plot title="Waiting for a permit" data={data} bars lines={[line("waiting", "waiting", "--fair")]} />
    </div>
  );
}

function measured({ values }: Line): boolean {
  return values.some((value) => value !== null);
}

/** The last `minutes` of it. */
function cut({ step_s, from, series }: PlotData, minutes: number): PlotData {
  const points = Math.round((minutes * 60) / step_s);
  const length = Math.max(...Object.values(series).map((values) => values.length));
  const left_out = Math.max(0, length - points);
  return {
    step_s,
    from: from + left_out * step_s,
    series: Object.fromEntries(
      Object.entries(series).map(([name, values]) => [name, values.slice(left_out)]),
    ),
  };
}
