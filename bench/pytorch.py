#!/usr/bin/env python3
"""Training, reading and decoding against PyTorch (pip install torch), in one run, taking turns.

python3 bench/pytorch.py [--program PARSIMONY] [--work train,forward,decode] [--size 128,256] [--threads N]
python3 bench/pytorch.py --device cuda:0 --size 768 --context 1024 --layers 12 --batch 8 --head 64 [--bf16]

Both sides run the same decoder with full attention: RMS norms, rotary positions, gated feed-forward, tied head, 32-bit
floats, the same batch, AdamW with clipping. PyTorch runs eagerly with its fused attention and fused AdamW, and decodes
with a preallocated cache. On a GPU both multiply 32-bit matrices through TF32, or with --bf16 round what they multiply to bfloat16 (PyTorch by
its autocast). Ratios above 1 mean that Parsimony does more tokens a second.
"""
import argparse, json, os, statistics, subprocess, time

VOCABULARY, PROMPT, RATIO = 256, 16, 3


def ours(options, work, size):
    command = [options.program, "bench", work, "--size", str(size), "--rounds", "1", "--seconds", str(options.seconds), "--format", "json"]
    command += ["--layers", str(options.layers), "--batch", str(options.batch), "--vocabulary", str(VOCABULARY), "--set", f"ffn_ratio={RATIO}"]
    command += ["--set", f"heads={size // options.head}", "--context", str(options.context or size)]
    command += ["--set", "precision=bf16"] if options.bf16 else []
    run = subprocess.run(command + ["--device", options.device], check=True, capture_output=True, text=True)
    answer = json.loads(run.stdout)
    return answer["models"][0], answer["gemm_gflop_per_s"]


def decoder(size, options):
    import torch
    from torch import nn
    from torch.nn import functional as F

    HEAD, LAYERS, context = options.head, options.layers, options.context or size

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            linear = lambda i, o: nn.Linear(i, o, bias=False)
            self.norm1, self.norm2 = nn.RMSNorm(size, 1e-5), nn.RMSNorm(size, 1e-5)
            self.q, self.k, self.v, self.o = (linear(size, size) for _ in range(4))
            self.gate, self.up, self.down = linear(size, RATIO * size), linear(size, RATIO * size), linear(RATIO * size, size)

        def forward(self, x, cos, sin, cache=None, at=0):
            b, n, _ = x.shape
            h = self.norm1(x)
            heads = lambda y: y.view(b, n, size // HEAD, HEAD).transpose(1, 2)
            rotate = lambda y: y * cos + torch.cat((-y[..., HEAD // 2 :], y[..., : HEAD // 2]), -1) * sin
            q, k, v = rotate(heads(self.q(h))), rotate(heads(self.k(h))), heads(self.v(h))
            if cache is not None:
                cache[0][:, :, at : at + n], cache[1][:, :, at : at + n] = k, v
                k, v = cache[0][:, :, : at + n], cache[1][:, :, : at + n]
            y = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
            x = x + self.o(y.transpose(1, 2).reshape(b, n, size))
            h = self.norm2(x)
            return x + self.down(F.silu(self.gate(h)) * self.up(h))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, size)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.RMSNorm(size, 1e-5)
            nn.init.normal_(self.embedding.weight, std=0.02)
            rates = 10_000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)
            angles = torch.outer(torch.arange(context), rates).repeat(1, 2)
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())

        def forward(self, tokens, caches=None, at=0):
            x, n = self.embedding(tokens), tokens.shape[1]
            cos, sin = self.cos[at : at + n], self.sin[at : at + n]
            for i, block in enumerate(self.blocks):
                x = block(x, cos, sin, caches and caches[i], at)
            x = self.norm(x if caches is None else x[:, -1:])
            return F.linear(x, self.embedding.weight)

    torch.manual_seed(0)
    return Decoder()


def theirs(work, size, options):
    """Something that does one piece of work and says how many tokens that was."""
    import torch
    from torch.nn import functional as F

    context, batch = options.context or size, options.batch
    model = decoder(size, options).to(options.device)
    precision = torch.autocast("cuda", torch.bfloat16, enabled=options.bf16)
    tokens = torch.randint(VOCABULARY, (batch, context), device=options.device)
    if work == "train":
        targets = torch.randint(VOCABULARY, (batch * context,), device=options.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)

        def step():
            optimizer.zero_grad(set_to_none=True)
            with precision:
                loss = F.cross_entropy(model(tokens).view(-1, VOCABULARY), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return batch * context

        return step
    if work == "forward":

        def read():
            with torch.inference_mode(), precision:
                model(tokens)
            return batch * context

        return read
    cache = lambda: torch.zeros(1, size // options.head, context, options.head, device=options.device)
    caches = [(cache(), cache()) for _ in range(options.layers)]
    state = {"at": context}

    def write():
        with torch.inference_mode():
            if state["at"] >= context:
                state["token"] = model(tokens[:1, :PROMPT], caches).argmax(-1)
                state["at"] = PROMPT
            state["token"] = model(state["token"], caches, state["at"]).argmax(-1)
            state["token"].item()  # as whoever prints it
            state["at"] += 1
        return 1

    return write


def rate(work, seconds, wait=lambda: None):
    wait()
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        done += work()
        wait()
    return done / (time.perf_counter() - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="parsimony")
    parser.add_argument("--work", default="train,forward,decode")
    parser.add_argument("--size", default="128,256", help="width and context")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--context", type=int, help="where it is not the size")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--head", type=int, default=32, help="components of a head")
    parser.add_argument("--bf16", action="store_true", help="products of bfloat16, on a GPU")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    wait = lambda: None
    if options.device != "cpu":
        torch.set_float32_matmul_precision("high")
        wait = torch.cuda.synchronize
    a, b = (torch.rand(1024, 1024, device=options.device) for _ in range(2))
    their_gemm = 2 * 1024**3 * rate(lambda: len((a @ b)[:1]), 1.0, wait) / 1e9
    print(f"tokens a second, medians of {options.turns} turns; {options.device}, {options.threads} threads; PyTorch {torch.__version__}")
    print(f"{'work':8} {'size':>5} {'pytorch':>10} {'parsimony':>10} {'ratio':>6}  of the large product")
    for work in options.work.split(","):
        for size in map(int, options.size.split(",")):
            step, pairs = theirs(work, size, options), []
            rate(step, options.seconds / 2, wait)
            for _ in range(options.turns):
                own, gemm = ours(options, work, size)
                pairs.append((rate(step, options.seconds, wait), own["tokens_per_s"], own["utilisation"], gemm))
            other, own, utilisation, gemm = (statistics.median(column) for column in zip(*pairs))
            ratio = statistics.median(b / a for a, b, *_ in pairs)
            print(f"{work:8} {size:5} {other:10.0f} {own:10.0f} {ratio:6.2f}  {100 * utilisation:.0f} % of {gemm:.0f} GFLOP/s", flush=True)
    print(f"PyTorch's large product: {their_gemm:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
