// FlashAttention's algorithm (2205.14135, 2307.08691) with products of 16-bit floats, summed in 32 bits: softmax attention over
// a band, 64 queries by 64 keys at a time. No matrix of pairs is ever formed; what is kept for the way back is the logarithm
// of each row's sum. Gradients of keys and of queries are made by a kernel each, so that nothing is added in a changing order.
// Compiled with WIDTH, the components of a head, a multiple of 16. Four warps of 16 rows each.

#define ROWS 64
#define PITCH (WIDTH + 8)
#define TILE (ROWS * PITCH)
#define STEPS (WIDTH / 16)

struct Sizes {
    long long n, keys, allocated, heads, key_heads, offset, window, ahead;
    // 0: nothing is padding; 1: keys and queries past a sequence's length are; 2: keys alone, of which the lengths are
    long long padded;
};

// Rows `first..` of one head of x [b, rows, heads, WIDTH] as 16-bit floats, zeros from `end` on.
__device__ __forceinline__ void fetch(bf16* tile, const float* x, long long sequence, long long rows, int heads, int head, int first, int end) {
    for (int i = threadIdx.x; i < ROWS * WIDTH / 4; i += 128) {
        const int r = i / (WIDTH / 4), c = i % (WIDTH / 4) * 4;
        float4 y = make_float4(0, 0, 0, 0);
        if (first + r < end) y = *(const float4*)(x + ((sequence * rows + first + r) * heads + head) * WIDTH + c);
        u32* to = (u32*)(tile + r * PITCH + c);
        to[0] = pack(y.x, y.y);
        to[1] = pack(y.z, y.w);
    }
}

// Which pairs one sequence has.
struct Band {
    int queries, keys, offset, window, ahead;

    __device__ Band(const Sizes& s, const int* lengths, int sequence)
        : queries(s.n), keys(s.keys), offset(s.offset), window(s.window), ahead(s.ahead) {
        if (s.padded) keys = lengths[sequence];
        if (s.padded == 1) queries = keys;
    }
    __device__ bool has(int query, int key) const {
        const int at = offset + query;
        return query < queries && key < keys && key - at <= ahead && at - key < window;
    }
    // Keys of the queries first..first + ROWS.
    __device__ int first_key(int first) const {
        const int key = offset + first - window + 1;
        return key > 0 ? key / ROWS * ROWS : 0;
    }
    __device__ int last_key(int first) const {
        if (first >= queries) return 0;
        const int end = offset + first + ROWS + ahead;
        return end < keys ? end : keys;
    }
    // Queries of the keys first..first + ROWS.
    __device__ int first_query(int first) const {
        const int query = first - ahead - offset;
        return query > 0 ? query / ROWS * ROWS : 0;
    }
    __device__ int last_query(int first) const {
        if (first >= keys) return 0;
        const int end = first + ROWS - 1 + window - offset;
        return end < queries ? end : queries;
    }
};

// s += rows of `left_tile` (16 of them) times rows of `right_tile` (8 BLOCKS of them), over WIDTH.
template <int BLOCKS>
__device__ __forceinline__ void scores(float (&s)[BLOCKS][4], const bf16* left_tile, const bf16* right_tile, int lane) {
#pragma unroll
    for (int d = 0; d < STEPS; d++) {
        u32 rows[4];
        ldmatrix(rows, left(left_tile + d * 16, PITCH, lane));
#pragma unroll
        for (int j = 0; j < BLOCKS / 2; j++) {
            u32 columns[4];
            ldmatrix(columns, right(right_tile + j * 16 * PITCH + d * 16, PITCH, lane));
            mma(s[2 * j], rows, columns[0], columns[1]);
            mma(s[2 * j + 1], rows, columns[2], columns[3]);
        }
    }
}

// sum += p (16 rows, 8 BLOCKS columns) times as many rows of `tile`.
template <int BLOCKS>
__device__ __forceinline__ void weigh(float (&sum)[WIDTH / 8][4], const float (&p)[BLOCKS][4], const bf16* tile, int lane) {
#pragma unroll
    for (int k = 0; k < BLOCKS / 2; k++) {
        const u32 rows[4] = {pack(p[2 * k][0], p[2 * k][1]), pack(p[2 * k][2], p[2 * k][3]),
                             pack(p[2 * k + 1][0], p[2 * k + 1][1]), pack(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int j = 0; j < STEPS; j++) {
            u32 columns[4];
            ldmatrix_transposed(columns, right_transposed(tile + k * 16 * PITCH + j * 16, PITCH, lane));
            mma(sum[2 * j], rows, columns[0], columns[1]);
            mma(sum[2 * j + 1], rows, columns[2], columns[3]);
        }
    }
}

// Writes 16 rows from `first` on of one head, those before `end`.
__device__ __forceinline__ void store(float* x, const float (&sum)[WIDTH / 8][4], float factor_low, float factor_high, long long sequence,
                                      long long rows, int heads, int head, int first, int end, int lane) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = first + lane / 4 + half * 8;
        const float factor = half ? factor_high : factor_low;
        if (row >= end) continue;
        float* to = x + ((sequence * rows + row) * heads + head) * WIDTH + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j++) *(float2*)(to + j * 8) = make_float2(sum[j][half * 2] * factor, sum[j][half * 2 + 1] * factor);
    }
}

KERNEL __launch_bounds__(128) attention_forward(const float* q, const float* k, const float* v, const int* lengths, float* o, float* sums, Sizes s) {
    DYNAMIC_SHARED
    bf16 *keys = (bf16*)shared, *values = keys + TILE, *queries = values + TILE;
    // the last queries see most keys and come first
    const int first = (gridDim.x - 1 - blockIdx.x) * ROWS, head = blockIdx.y, sequence = blockIdx.z;
    const int key_head = head / (int)(s.heads / s.key_heads);
    const int lane = threadIdx.x % 32, row0 = threadIdx.x / 32 * 16;
    const Band band(s, lengths, sequence);
    const float scale = rsqrtf((float)WIDTH), factor = scale * LOG2E;

    fetch(queries, q, sequence, s.n, s.heads, head, first, s.n);
    float out[WIDTH / 8][4] = {};
    float most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    const int end = band.last_key(first);
    for (int key = band.first_key(first); key < end; key += ROWS) {
        __syncthreads();
        fetch(keys, k, sequence, s.allocated, s.key_heads, key_head, key, s.keys);
        fetch(values, v, sequence, s.allocated, s.key_heads, key_head, key, s.keys);
        __syncthreads();
        float p[8][4] = {};
        scores<8>(p, queries + row0 * PITCH, keys, lane);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = first + row0 + lane / 4 + half * 8;
            float next = most[half];
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float& x = p[j][half * 2 + e];
                    if (!band.has(query, key + j * 8 + lane % 4 * 2 + e)) x = -INFINITY;
                    next = fmaxf(next, x);
                }
            next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 1));
            next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 2));
            const float base = next == -INFINITY ? 0.0f : next * factor;
            const float keep = exp2f(most[half] * factor - base);
            most[half] = next;
            total[half] *= keep;
#pragma unroll
            for (int j = 0; j < WIDTH / 8; j++) {
                out[j][half * 2] *= keep;
                out[j][half * 2 + 1] *= keep;
            }
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float& x = p[j][half * 2 + e];
                    x = exp2f(x * factor - base);
                    total[half] += x;
                }
        }
        weigh<8>(out, p, values, lane);
    }
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = total[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        inverse[half] = sum > 0 ? 1 / sum : 0;
        const int query = first + row0 + lane / 4 + half * 8;
        if (query < s.n && lane % 4 == 0)
            sums[(sequence * s.heads + head) * s.n + query] = sum > 0 ? most[half] * scale + logf(sum) : 0;
    }
    store(o, out, inverse[0], inverse[1], sequence, s.n, s.heads, head, first + row0, s.n, lane);
}

// The products of outputs and their gradients, one for each row and head: [b, heads, n]. A warp makes one.
KERNEL __launch_bounds__(128) attention_means(const float* o, const float* gradient, float* means, Sizes s) {
    const int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, sequence = blockIdx.z, head = blockIdx.y;
    if (row >= s.n) return;
    const long long at = ((sequence * s.n + row) * s.heads + head) * WIDTH;
    float sum = 0;
    for (int i = lane; i < WIDTH; i += 32) sum += o[at + i] * gradient[at + i];
    sum = sum_of_warp(sum);
    if (lane == 0) means[(sequence * s.heads + head) * s.n + row] = sum;
}

// Probability of a pair and the gradient of its score.
__device__ __forceinline__ void slope(float& p, float& dp, bool has, float factor, float sum, float mean) {
    p = has ? exp2f(p * factor - sum * LOG2E) : 0;
    dp = p * (dp - mean);
}

KERNEL __launch_bounds__(128) attention_keys_backward(const float* q, const float* k, const float* v, const int* lengths, const float* sums,
                                                      const float* means, const float* gradient, float* dk, float* dv, Sizes s) {
    DYNAMIC_SHARED
    bf16 *keys = (bf16*)shared, *values = keys + TILE, *queries = values + TILE, *slopes = queries + TILE;
    float *row_sums = (float*)(slopes + TILE), *row_means = row_sums + ROWS;
    const int first = blockIdx.x * ROWS, key_head = blockIdx.y, sequence = blockIdx.z, group = s.heads / s.key_heads;
    const int lane = threadIdx.x % 32, row0 = threadIdx.x / 32 * 16;
    const Band band(s, lengths, sequence);
    const float scale = rsqrtf((float)WIDTH), factor = scale * LOG2E;

    fetch(keys, k, sequence, s.allocated, s.key_heads, key_head, first, s.keys);
    fetch(values, v, sequence, s.allocated, s.key_heads, key_head, first, s.keys);
    float key_sum[WIDTH / 8][4] = {}, value_sum[WIDTH / 8][4] = {};
    const int begin = band.first_query(first), end = band.last_query(first);
    for (int head = key_head * group; head < (key_head + 1) * group; head++) {
        for (int query = begin; query < end; query += ROWS) {
            __syncthreads();
            fetch(queries, q, sequence, s.n, s.heads, head, query, s.n);
            fetch(slopes, gradient, sequence, s.n, s.heads, head, query, s.n);
            if (threadIdx.x < ROWS) {
                const bool there = query + threadIdx.x < s.n;
                const long long at = (sequence * s.heads + head) * s.n + query + threadIdx.x;
                row_sums[threadIdx.x] = there ? sums[at] : 0;
                row_means[threadIdx.x] = there ? means[at] : 0;
            }
            __syncthreads();
            for (int part = 0; part < ROWS; part += 32) {
                float p[4][4] = {}, dp[4][4] = {};
                scores<4>(p, keys + row0 * PITCH, queries + part * PITCH, lane);
                scores<4>(dp, values + row0 * PITCH, slopes + part * PITCH, lane);
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const int column = part + j * 8 + lane % 4 * 2 + e % 2;
                        const bool has = band.has(query + column, first + row0 + lane / 4 + e / 2 * 8);
                        slope(p[j][e], dp[j][e], has, factor, row_sums[column], row_means[column]);
                    }
                weigh<4>(value_sum, p, slopes + part * PITCH, lane);
                weigh<4>(key_sum, dp, queries + part * PITCH, lane);
            }
        }
    }
    store(dk, key_sum, scale, scale, sequence, s.allocated, s.key_heads, key_head, first + row0, s.allocated, lane);
    store(dv, value_sum, 1, 1, sequence, s.allocated, s.key_heads, key_head, first + row0, s.allocated, lane);
}

KERNEL __launch_bounds__(128) attention_queries_backward(const float* q, const float* k, const float* v, const int* lengths, const float* sums,
                                                         const float* means, const float* gradient, float* dq, Sizes s) {
    DYNAMIC_SHARED
    bf16 *keys = (bf16*)shared, *values = keys + TILE, *queries = values + TILE, *slopes = queries + TILE;
    const int first = (gridDim.x - 1 - blockIdx.x) * ROWS, head = blockIdx.y, sequence = blockIdx.z;
    const int key_head = head / (int)(s.heads / s.key_heads);
    const int lane = threadIdx.x % 32, row0 = threadIdx.x / 32 * 16;
    const Band band(s, lengths, sequence);
    const float scale = rsqrtf((float)WIDTH), factor = scale * LOG2E;

    fetch(queries, q, sequence, s.n, s.heads, head, first, s.n);
    fetch(slopes, gradient, sequence, s.n, s.heads, head, first, s.n);
    float row_sum[2], row_mean[2], sum[WIDTH / 8][4] = {};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int query = first + row0 + lane / 4 + half * 8;
        const long long at = (sequence * s.heads + head) * s.n + query;
        row_sum[half] = query < s.n ? sums[at] : 0;
        row_mean[half] = query < s.n ? means[at] : 0;
    }
    const int end = band.last_key(first);
    for (int key = band.first_key(first); key < end; key += ROWS) {
        __syncthreads();
        fetch(keys, k, sequence, s.allocated, s.key_heads, key_head, key, s.keys);
        fetch(values, v, sequence, s.allocated, s.key_heads, key_head, key, s.keys);
        __syncthreads();
        for (int part = 0; part < ROWS; part += 32) {
            float p[4][4] = {}, dp[4][4] = {};
            scores<4>(p, queries + row0 * PITCH, keys + part * PITCH, lane);
            scores<4>(dp, slopes + row0 * PITCH, values + part * PITCH, lane);
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const bool has = band.has(first + row0 + lane / 4 + e / 2 * 8, key + part + j * 8 + lane % 4 * 2 + e % 2);
                    slope(p[j][e], dp[j][e], has, factor, row_sum[e / 2], row_mean[e / 2]);
                }
            weigh<4>(sum, dp, keys + part * PITCH, lane);
        }
    }
    store(dq, sum, scale, scale, sequence, s.n, s.heads, head, first + row0, s.n, lane);
}
