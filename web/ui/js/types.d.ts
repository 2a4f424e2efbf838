// What the server's JSON looks like, as far as the pages read it.

export type Value = boolean | number | string;
export type Direction = "minimize" | "maximize";

export interface Metric {
  value: number;
  unit: string;
  evidence: string;
  spread?: number | null;
  source: string;
}

export interface MetricInfo {
  name: string;
  unit: string;
  direction: Direction;
  known_before_training: boolean;
  doc: string;
}

export interface Progress {
  phase: string;
  step: number;
  steps: number;
  eta_s?: number | null;
}

export interface Trial {
  id: number;
  number: number;
  state: string;
  attempt: number;
  worker: string | null;
  device: string | null;
  config: Record<string, Value>;
  metrics: Record<string, Metric>;
  repeats: number | null;
  trainings: number;
  failure: { kind: string | null; message: string } | null;
  stopping: boolean;
  progress: Progress | null;
  wall_s: number | null;
  trained: number;
  target: number;
  started_at: string | null;
  finished_at: string | null;
}

export interface Objective {
  metric: string;
  direction: Direction;
  unit: string;
}

export interface Limit {
  metric: string;
  min?: number | null;
  max?: number | null;
}

export type Counts = Record<
  "queued" | "running" | "paused" | "done" | "pruned" | "infeasible" | "failed" | "cancelled",
  number
>;

export interface Study {
  id: number;
  name: string;
  state: string;
  error: string | null;
  counts: Counts;
  objectives: Objective[];
  limits: Limit[];
  changed_at: string;
  revision: number;
  progress: {
    finished: number;
    wanted: number;
    trained: number;
    full_trials: number | null;
    elapsed_s: number | null;
    eta: { low_s: number; high_s: number } | null;
  };
  hypervolume: { value: number; fixed: boolean; curve: { trial: number; results: number; value: number }[] };
  parameters: { name: string; doc: string; unit: string }[];
}

/** A trial with all that is kept of it. */
export interface TrialView extends Trial {
  study_name: string;
  max_attempts: number;
  activity: Record<string, number>;
  provenance: Record<string, string>;
  snapshot: { method: string; seed: number; finished: number; pending: number[] };
  artifacts: { name: string; sha256: string; size_bytes: number }[];
}

export interface Curve {
  metric: string;
  unit: string;
  points: { step: number; value: number }[];
}

export interface Recommendation {
  trial: Trial;
  reason: string;
  feasible: number;
  looked_at: number;
  given_up: { metric: string; value: number; best: number; best_id: number }[];
  relax: { limit: Limit; value: number; by: number }[];
}

/** Limits of one metric, in its own unit. */
export interface Budget {
  min: number | null;
  max: number | null;
}

export type Domain =
  | { int: { low: number; high: number; log: boolean; step: number } }
  | { float: { low: number; high: number; log: boolean; step: number | null } }
  | { categorical: { choices: Value[] } };

export interface Condition {
  clauses: { parent: string; test: Record<string, Value | Value[]> }[];
}

export interface ParameterInfo {
  name: string;
  doc: string;
  unit: string;
  group: string;
  allowed: Domain;
  search: Domain;
  default: Value;
  condition: Condition;
}

export interface Range {
  int?: [number, number];
  float?: [number, number];
  choices?: Value[];
  step?: number;
  log?: boolean;
  when?: string;
}
export type ParameterSpec = Value[] | Range;

export interface Catalog {
  parameters: ParameterInfo[];
  techniques: { family: string; name: string; doc: string; paper: string }[];
  corpora: { name: string; doc: string; needs_path: boolean; takes_tokenizer: boolean; options: ParameterInfo[] }[];
  presets: { name: string; doc: string; fixed: Record<string, Value>; space: [string, ParameterSpec][] }[];
  metrics: MetricInfo[];
  methods: { name: string; doc: string; paper: string }[];
  rules: { name: string; doc: string; paper: string }[];
}

/** A study as the user writes it. */
export interface Spec {
  name: string;
  data: { corpus: string } & Record<string, Value>;
  base?: { path: string };
  teacher?: { path: string };
  fixed?: Record<string, Value>;
  space?: { preset?: string } & Record<string, ParameterSpec | string | undefined>;
  objective: { metric: string }[];
  constraint?: { metric: string; min?: Value; max?: Value }[];
  search?: {
    method?: string;
    trials?: number;
    wall?: Value;
    full_trials?: number;
    repeats?: number;
    parallel?: number;
    seed?: number;
    fidelity?: { steps: number[]; rule?: string; eta?: number };
    start?: Record<string, Value>[];
  };
}
