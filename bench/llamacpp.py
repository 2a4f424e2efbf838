#!/usr/bin/env python3
"""Decoding with packed weights against llama.cpp (pip install llama-cpp-python gguf), in one run, taking turns.

python3 bench/llamacpp.py [--program PARSIMONY] [--size 512,768] [--bits 4,8] [--activations 32,8] [--threads N]

Both sides decode one sequence with a decoder of the same shape and random weights: RMS norms, rotary positions, full
attention, gated feed-forward, tied head, a cache of 32-bit floats. llama.cpp has Q4_0 (4.5 bits for each weight) and Q8_0
(8.5 bits), which round activations to 8 bits; Parsimony has 4 and 8 bits in groups of 64 (4.375 and 8.375 bits), with
activations of 32 bits or, like llama.cpp, of 8. Each turn decodes as many tokens as the context holds, after a few that warm
up. Ratios above 1 mean that Parsimony does more tokens a second. `pip install` builds llama.cpp for this processor.
"""
import argparse, json, os, statistics, subprocess, tempfile, time

VOCABULARY, RATIO, HEAD = 256, 3, 32


def ours(options, size, bits, activations):
    command = [options.program, "bench", "decode", "--size", str(size), "--rounds", "1", "--seconds", str(options.seconds), "--format", "json"]
    command += ["--layers", str(options.layers), "--vocabulary", str(VOCABULARY), "--context", str(options.context), "--bits", str(bits)]
    command += ["--set", f"ffn_ratio={RATIO}", "--set", f"heads={size // HEAD}", "--device", "cpu"]
    command += ["--set", f"activation_bits={activations}"] if activations < 32 else []
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)["models"][0]["tokens_per_s"]


def write_model(path, size, bits, options):
    import gguf, numpy as np

    kind = {4: gguf.GGMLQuantizationType.Q4_0, 8: gguf.GGMLQuantizationType.Q8_0, 32: gguf.GGMLQuantizationType.F32}[bits]
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(options.context)
    writer.add_embedding_length(size)
    writer.add_block_count(options.layers)
    writer.add_feed_forward_length(RATIO * size)
    writer.add_head_count(size // HEAD)
    writer.add_head_count_kv(size // HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>"] + [f"<{i}>" for i in range(3, VOCABULARY)])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([2, 3, 3] + [1] * (VOCABULARY - 3))

    def matrix(name, rows, columns):
        weights = random.normal(0, 0.02, (rows, columns)).astype(np.float32)
        packed = weights if bits == 32 else gguf.quants.quantize(weights, kind)
        writer.add_tensor(name + ".weight", packed, raw_dtype=kind)

    ones = lambda name: writer.add_tensor(name + ".weight", np.ones(size, np.float32))
    matrix("token_embd", VOCABULARY, size)
    ones("output_norm")
    for i in range(options.layers):
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            matrix(f"blk.{i}.{name}", size, size)
        matrix(f"blk.{i}.ffn_gate", RATIO * size, size)
        matrix(f"blk.{i}.ffn_up", RATIO * size, size)
        matrix(f"blk.{i}.ffn_down", size, RATIO * size)
        ones(f"blk.{i}.attn_norm")
        ones(f"blk.{i}.ffn_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def theirs(size, bits, options, folder):
    """Something that decodes the whole context and says how many tokens that was, and in how many seconds."""
    import llama_cpp

    path = os.path.join(folder, f"{size}-{bits}.gguf")
    write_model(path, size, bits, options)
    model = llama_cpp.Llama(path, n_ctx=options.context, n_threads=options.threads, type_k=0, type_v=0, flash_attn=False, verbose=False)

    def decode():
        model.reset()
        model.eval([1])
        begun = time.perf_counter()
        for i in range(1, options.context):
            model.eval([3 + i % (VOCABULARY - 3)])
        return (options.context - 1) / (time.perf_counter() - begun)

    return decode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="parsimony")
    parser.add_argument("--size", default="512,768", help="width")
    parser.add_argument("--bits", default="4,8")
    parser.add_argument("--activations", default="32,8", help="bits of Parsimony's activations")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each of Parsimony's turns")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    import llama_cpp

    print(f"tokens a second, medians of {options.turns} turns; {options.threads} threads; llama-cpp-python {llama_cpp.__version__}")
    print(f"{'size':>5} {'bits':>4} {'activations':>11} {'llama.cpp':>10} {'parsimony':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, options.size.split(",")):
            for bits in map(int, options.bits.split(",")):
                decode = theirs(size, bits, options, folder)
                decode()
                for activations in map(int, options.activations.split(",")) if bits < 32 else [32]:
                    pairs = [(decode(), ours(options, size, bits, activations)) for _ in range(options.turns)]
                    other, own = (statistics.median(column) for column in zip(*pairs))
                    ratio = statistics.median(b / a for a, b in pairs)
                    print(f"{size:5} {bits:4} {activations:11} {other:10.0f} {own:10.0f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
