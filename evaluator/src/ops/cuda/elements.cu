// Operations on elements: a thread has one, or a pair; blocks of 256 threads.

struct Sizes {
    long long n;
    // of rotary positions: positions, heads, pairs of a head, and the sign of the turn
    long long positions, heads, half;
    float sign, unused;
};

__device__ __forceinline__ long long index() { return (long long)blockIdx.x * 256 + threadIdx.x; }

// Four elements to 16 bits each; the last ones alone.
KERNEL to_16_bits(const float* x, bf16* y, Sizes s) {
    const long long i = index() * 4;
    if (i + 3 < s.n) {
        const float4 from = *(const float4*)(x + i);
        *(uint2*)(y + i) = make_uint2(pack(from.x, from.y), pack(from.z, from.w));
    } else {
        for (long long j = i; j < s.n; j++) y[j] = pack(x[j], 0);
    }
}

KERNEL swiglu_forward(const float* a, const float* b, float* y, Sizes s) {
    const long long i = index();
    if (i < s.n) y[i] = a[i] * b[i] / (1 + exp2f(-a[i] * LOG2E));
}

KERNEL swiglu_backward(const float* a, const float* b, const float* g, float* da, float* db, Sizes s) {
    const long long i = index();
    if (i >= s.n) return;
    const float gate = 1 / (1 + exp2f(-a[i] * LOG2E)), silu = a[i] * gate;
    da[i] = g[i] * b[i] * (gate + silu * (1 - gate));
    db[i] = g[i] * silu;
}

// Turns pairs of x [b, positions, heads, 2 half] by the tables [positions, half].
KERNEL rope_turn(const float* x, const float* cosines, const float* sines, float* y, Sizes s) {
    const long long i = index();
    if (i >= s.n) return;
    const long long pair = i % s.half, row = i / s.half, position = row / s.heads % s.positions;
    const float c = cosines[position * s.half + pair], t = s.sign * sines[position * s.half + pair];
    const long long at = row * 2 * s.half + pair;
    const float left = x[at], right = x[at + s.half];
    y[at] = left * c - right * t;
    y[at + s.half] = right * c + left * t;
}
