/** What the operator's API answers; /openapi.json describes it in full. */

/** Seconds that each stage of an answer took; null or absent: not measured. */
export type Seconds = Record<string, number | null | undefined>;

export interface Source {
  filename: string;
  heading?: string | null;
  quote?: string;
  page?: number | null;
}

/** Who was asked in a capability: those who failed before the one that served. */
export interface Service {
  provider?: string | null;
  model?: string;
  failovers?: { provider: string; reason: string }[];
  tokens?: { prompt?: number; completion?: number };
}

/** What is known of something that was said, beside the words. */
export interface Told {
  interrupted?: boolean;
  sources?: Source[];
  served_by?: Record<string, string | null>;
  services?: Record<string, Service>;
  stages_s?: Seconds;
}

export interface Call {
  session_id: string | null;
  room: string;
  caller: string | null; // in its first moments
  began_at: string;
  state: string;
  provider: string | null;
  language: string | null;
  turns: number;
  last: Told | null;
}

export interface Caption extends Told {
  role: string;
  text: string;
  interim?: boolean; // its words so far
}

export interface Session {
  id: number;
  session_id: string;
  room: string | null;
  caller: string | null;
  began_at: string;
  ended_at: string | null;
  status: string;
  provider: string | null;
  messages: number;
  language: string | null;
}

export interface Message {
  role: string;
  content: string;
  created_at: string;
  metadata: Told | null;
}

export interface Recording {
  session: Session;
  messages: Message[];
}

export interface DocumentFile {
  filename: string;
  status: string;
  chunks: number;
  bytes: number;
  modified_at: string;
  reason: string | null;
}

export interface Documents {
  folder: string;
  indexing: boolean;
  progress: { done: number; total: number };
  error: string | null;
  formats: string[];
  max_bytes: number;
  writable: boolean;
  files: DocumentFile[];
}

export interface Hit {
  filename: string;
  heading: string | null;
  page: number | null;
  content: string;
  similarity: number;
  chunk_index: number;
}

export interface Persona {
  id: number;
  name: string;
  language: string | null;
  greeting: string | null;
  instructions: string;
  is_active: boolean;
  in_use: boolean;
  updated_at: string | null;
}

export type PersonaText = Record<
  "name" | "language" | "greeting" | "instructions",
  string | null
>;

export interface Version {
  version: number;
  change: string;
  changed_by: string | null;
  changed_at: string | null;
  content: PersonaText;
}

/** What is allowed, as JSON Schema has it. */
export interface Bounds {
  type?: string;
  enum?: unknown[];
  anyOf?: Bounds[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

export interface Setting {
  key: string;
  description: string;
  type: string;
  allowed: Bounds;
  composed: unknown;
  is_set: boolean;
  live: unknown;
  trouble: string | null;
}

export interface Provider {
  capability: string;
  name: string;
  state: string;
  reason: string | null;
  off: boolean;
  requests: number;
  failures: number;
  error_rate: number;
  errors: Record<string, number>;
}

export interface Providers {
  permits: { allowed: number; in_flight: number; waiting: number };
  window_s: number;
  providers: Provider[];
}

export interface ConfigurationLine {
  key: string;
  value: unknown;
  origin: string;
  source: string;
}

export interface Health {
  served: boolean;
  checked_at: string;
  lines: { part: string; state: string; detail: string; mend: string; vital: boolean }[];
}

export interface AuditEntry {
  id: number;
  at: string;
  who: string;
  what: string;
  before: unknown;
  after: unknown;
}

export interface PlotData {
  step_s: number;
  from: number; // seconds since 1970
  series: Record<string, (number | null)[]>;
}
