import { useState } from "react";
import { useGet } from "./api";
import { Loaded, Nothing } from "./Loaded";
import { SettingRow } from "./SettingRow";
import type { Setting } from "./shapes";

/** What changes while calls run: the rows of system_config. */
export default function Settings() {
  const settings = useGet<Setting[]>("/api/settings");
  const [filter, setFilter] = useState("");
  return (
    <>
      <p className="lead">
        These hold from the next call on, without a restart. What is not set here is as the
        configuration has it.
      </p>
      <div className="tools">
        <label>
          <span className="visually-hidden">Filter the settings</span>
          <input
            type="search"
            placeholder="Filter, such as temperature"
            value={filter}
            onChange={(event) => setFilter(event.target.value)}
          />
        </label>
      </div>
      <Loaded from={settings}>
        {(list) => <Groups settings={matching(list, filter)} onChange={() => void settings.mutate()} />}
      </Loaded>
    </>
  );
}

function Groups({ settings, onChange }: { settings: Setting[]; onChange: () => void }) {
  const groups = [...new Set(settings.map(({ key }) => group(key)))];
  if (groups.length === 0) return <Nothing title="No setting has these words." />;
  return groups.map((name) => (
    <section key={name} aria-labelledby={`group-${name}`}>
      <h2 id={`group-${name}`} className="mono">
        {name}
      </h2>
      <ul className="settings">
        {settings
          .filter(({ key }) => group(key) === name)
          .map((one) => (
            <SettingRow key={one.key} setting={one} onChange={onChange} />
          ))}
      </ul>
    </section>
  ));
}

function group(key: string): string {
  return key.slice(0, key.lastIndexOf("."));
}

function matching(settings: Setting[], filter: string): Setting[] {
  const wanted = filter.trim().toLowerCase();
  return settings.filter(({ key, description }) =>
    `${key} ${description}`.toLowerCase().includes(wanted),
  );
}
