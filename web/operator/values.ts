import type { Bounds } from "./shapes";

/** A value of the configuration, as it is read by a person. */
export function shown(value: unknown): string {
  if (typeof value === "string") return value;
  return value === undefined ? "" : JSON.stringify(value);
}

/** What may be written, in words: "0 to 2", "above 0 or null"; empty where there is no bound. */
export function bounds(allowed: Bounds): string {
  if (allowed.anyOf) return allowed.anyOf.map(bounds).filter(Boolean).join(" or ");
  if (allowed.enum) return allowed.enum.map(shown).join(", ");
  if (allowed.type === "null") return "null";
  const { minimum, maximum, exclusiveMinimum: above, exclusiveMaximum: below } = allowed;
  const least = minimum ?? (above === undefined ? undefined : `above ${above}`);
  const most = maximum ?? (below === undefined ? undefined : `below ${below}`);
  if (least !== undefined && most !== undefined) return `${least} to ${most}`;
  if (minimum !== undefined) return `${minimum} or more`;
  if (maximum !== undefined) return `${maximum} or less`;
  return String(least ?? most ?? "");
}
