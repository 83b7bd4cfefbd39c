import { useDeferredValue, useState } from "react";
import { useGet } from "./api";
import { Loaded, Nothing } from "./Loaded";
import type { ConfigurationLine } from "./shapes";
import { shown } from "./values";

const EVERY = "every origin";

/** The composed configuration, and where each value comes from. */
export default function Configuration() {
  const lines = useGet<ConfigurationLine[]>("/api/configuration");
  const [filter, setFilter] = useState("");
  const [origin, setOrigin] = useState(EVERY);
  const wanted = useDeferredValue(filter.trim().toLowerCase());
  return (
    <Loaded from={lines}>
      {(all) => {
        const some = all.filter(
          (line) =>
            (origin === EVERY || line.origin === origin) &&
            `${line.key} ${shown(line.value)}`.toLowerCase().includes(wanted),
        );
        const origins = [...new Set(all.map((line) => line.origin))];
        return (
          <>
            <div className="tools">
              <label>
                <span className="visually-hidden">Filter the configuration</span>
                <input
                  type="search"
                  placeholder="Filter by key or value"
                  value={filter}
                  onChange={(event) => setFilter(event.target.value)}
                />
              </label>
              <label>
                <span className="visually-hidden">Origin</span>
                <select value={origin} onChange={(event) => setOrigin(event.target.value)}>
                  {[EVERY, ...origins].map((one) => (
                    <option key={one}>{one}</option>
                  ))}
                </select>
              </label>
              <span className="quiet number">
                {some.length} of {all.length}
              </span>
            </div>
            {some.length === 0 ? (
              <Nothing title="No key has these words." />
            ) : (
              <Table lines={some} />
            )}
          </>
        );
      }}
    </Loaded>
  );
}

function Table({ lines }: { lines: ConfigurationLine[] }) {
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Configuration">
      <table className="configuration">
        <thead>
          <tr>
            <th scope="col">Key</th>
            <th scope="col">Value</th>
            <th scope="col">Origin</th>
          </tr>
        </thead>
        <tbody>
          {lines.map(({ key, value, origin, source }) => (
            <tr key={key}>
              <th scope="row" className="mono">
                {key}
              </th>
              <td className="mono value">{shown(value)}</td>
              <td className="origin">
                <span className={origin === "default" ? "quiet" : undefined}>{origin}</span>
                {source && <span className="quiet mono">{source}</span>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
