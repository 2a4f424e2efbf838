// Numbers, units, times and names as people read them.

/** Units with their prefixes, largest first. @type {Record<string, [string, number][]>} */
const SCALES = {
  B: [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]],
  FLOP: [["PFLOP", 1e15], ["TFLOP", 1e12], ["GFLOP", 1e9], ["MFLOP", 1e6], ["kFLOP", 1e3], ["FLOP", 1]],
  J: [["kJ", 1e3], ["J", 1], ["mJ", 1e-3], ["µJ", 1e-6], ["nJ", 1e-9]],
  s: [["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3]],
  parameters: [["M", 1e6], ["k", 1e3], ["", 1]],
};

/** Names that reading the words would not give. @type {Record<string, string>} */
const TITLES = {
  model_bytes: "model size",
  state_bytes_per_sequence: "state per sequence",
  peak_memory_bytes: "peak memory",
  training_peak_memory_bytes: "training peak memory",
  communication_bytes: "communication",
  throughput_tokens_per_s: "throughput",
  training_tokens_per_s: "training throughput",
  latency_ms_per_token: "latency per token",
  energy_j_per_token: "energy per token",
  inference_flops_per_token: "inference FLOPs per token",
  training_flops: "training FLOPs",
  training_carbon_g: "training carbon",
  cost_usd: "training cost",
  cost_usd_per_parameter: "cost per parameter",
  ffn_ratio: "FFN ratio",
  ff_chunks: "FFN chunks",
  kv_heads: "KV heads",
  top_k: "top-k",
  lora: "LoRA",
  lora_rank: "LoRA rank",
  lora_alpha: "LoRA alpha",
  lora_targets: "LoRA targets",
  quant_group: "quantization group",
  quant_method: "quantization method",
};

/** A metric's or parameter's name in words. @param {string} name */
export function title(name) {
  return TITLES[name] ?? name.replace(/_(ms|s|j)$/, "").replace(/_(ms|s|j)_/, "_").replaceAll("_", " ");
}

/** The same at the start of a line. @param {string} name */
export function heading(name) {
  const words = title(name);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * The unit with the prefix that suits `size`, and what it is worth.
 * @param {number} size @param {string} unit @returns {{ name: string, factor: number }}
 */
export function scale(size, unit) {
  const [head = "", ...tail] = unit.split("/");
  const rest = tail.length ? `/${tail.join("/")}` : "";
  const steps = SCALES[head];
  if (!steps) return { name: head === "fraction" || head === "x" ? "" : unit, factor: 1 };
  const fit = steps.find(([, factor]) => Math.abs(size) >= factor) ?? (size === 0 ? steps.find(([, f]) => f === 1) : steps.at(-1));
  const [name, factor] = fit ?? [head, 1];
  return { name: name + rest, factor };
}

/** A plain number in at most four significant digits. @param {number} value */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/**
 * How to write a column of numbers: with the same decimals, so that they can be compared at a glance, and as many as the
 * middle one needs for four digits, at most. Whole numbers stay whole.
 * @param {number[]} values @param {number} middle @returns {(value: number) => string}
 */
export function column(values, middle) {
  if (values.every(Number.isInteger)) return number;
  const size = Math.abs(middle);
  const most = size > 0 ? Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(size)))) : 3;
  const needed = Math.max(...values.map((v) => (String(Number(v.toPrecision(4))).split(".")[1] ?? "").length));
  const decimals = Math.min(most, needed);
  // one that would vanish shows what it is
  return (value) => (value !== 0 && Math.abs(value) < 5 * 10 ** -decimals ? String(Number(value.toPrecision(2))) : value.toFixed(decimals));
}

/**
 * A value with its unit, and with its spread where there is one.
 * @param {number | null | undefined} value @param {string} unit @param {number} [spread]
 */
export function quantity(value, unit, spread = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const { name, factor } = scale(value, unit);
  const space = name === "" || name === "M" || name === "k" ? "" : " ";
  return `${number(value / factor)}${spread ? ` ± ${number(Number((spread / factor).toPrecision(2)))}` : ""}${space}${name}`;
}

/** How far `value` is from `base`: in percent, or as a factor where it is more than threefold. @param {number} value @param {number} base */
export function percent(value, base) {
  if (value === base) return "same";
  if (base === 0 || !Number.isFinite(value / base)) return "–";
  const factor = value / base;
  if (factor >= 3) return `×${factor < 100 ? number(Number(factor.toPrecision(3))) : Math.round(factor)}`;
  const share = (100 * (value - base)) / Math.abs(base);
  const digits = Math.abs(share) >= 100 ? 0 : 1;
  return `${share > 0 ? "+" : "−"}${Math.abs(share).toFixed(digits)} %`;
}

/** A time span. @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} days`;
}

/** How long ago. @param {string | null | undefined} time RFC 3339 @param {number} [now] milliseconds */
export function ago(time, now = Date.now()) {
  if (!time) return "–";
  const seconds = (now - Date.parse(time)) / 1000;
  return seconds < 5 ? "just now" : `${duration(Math.floor(seconds))} ago`;
}

/** A configuration value. @param {unknown} value */
export function plain(value) {
  if (value === undefined || value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value).replaceAll("_", " ");
  const long = Number.isInteger(value) && Math.abs(value) >= 1e5 && Math.abs(value) < 1e9;
  return long ? value.toLocaleString("en").replaceAll(",", "\u202f") : number(value);
}
