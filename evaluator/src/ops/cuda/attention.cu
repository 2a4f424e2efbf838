// FlashAttention's algorithm (2205.14135, 2307.08691) with products of 16-bit floats, summed in 32 bits: softmax attention over
// a band. A block of eight warps holds 128 queries (or keys), 16 a warp, and meets the keys (or queries) 64 at a time, the next
// 64 under way meanwhile. No matrix of pairs is ever formed; what is kept for the way back is the logarithm of each row's sum.
// Gradients of keys and of queries are made by a kernel each, so that nothing is added in a changing order.
// Compiled with WIDTH, the components of a head, a multiple of 16.

#define THREADS 256
#define HELD 128
#define ROWS 64
#define PITCH (WIDTH + 8)
#define HELD_TILE (HELD * PITCH)
#define TILE (ROWS * PITCH)
#define STEPS (WIDTH / 16)

struct Sizes {
    long long n, keys, allocated, heads, key_heads, offset, window, ahead;
    // 0: nothing is padding; 1: keys and queries past a sequence's length are; 2: keys alone, of which the lengths are
    long long padded;
};

// COUNT rows from `first` on of one head of x [b, rows, heads, WIDTH], zeros from `end` on.
template <int COUNT>
__device__ __forceinline__ void fetch(bf16* tile, const bf16* x, long long sequence, long long rows, int heads, int head, int first, int end) {
    for (int i = threadIdx.x; i < COUNT * WIDTH / 8; i += THREADS) {
        const int r = i / (WIDTH / 8), c = i % (WIDTH / 8) * 8;
        const bool there = first + r < end;
        copy_async(tile + r * PITCH + c, there ? x + ((sequence * rows + first + r) * heads + head) * WIDTH + c : x, there);
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
    // Whether some pair of these queries and keys is there, and whether all are; both ends belong to them.
    __device__ bool meets(int query, int last_query, int key, int last_key) const {
        return key - offset - last_query <= ahead && offset + query - last_key < window;
    }
    __device__ bool has_all(int query, int last_query, int key, int last_key) const {
        return last_query < queries && last_key < keys && last_key - offset - query <= ahead && offset + last_query - key < window;
    }
    // Keys of the queries first..first + HELD.
    __device__ int first_key(int first) const {
        const int key = offset + first - window + 1;
        return key > 0 ? key / ROWS * ROWS : 0;
    }
    __device__ int last_key(int first) const {
        if (first >= queries) return 0;
        const int end = offset + first + HELD + ahead;
        return end < keys ? end : keys;
    }
    // Queries of the keys first..first + HELD.
    __device__ int first_query(int first) const {
        const int query = first - ahead - offset;
        return query > 0 ? query / ROWS * ROWS : 0;
    }
    __device__ int last_query(int first) const {
        if (first >= keys) return 0;
        const int end = first + HELD - 1 + window - offset;
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

KERNEL __launch_bounds__(THREADS, WIDTH > 64 ? 1 : 2) attention_forward(const bf16* q, const bf16* k, const bf16* v, const int* lengths, float* o, float* sums, Sizes s) {
    DYNAMIC_SHARED
    bf16 *queries = (bf16*)shared, *ring = queries + HELD_TILE;
    // the last queries see most keys and come first
    const int first = (gridDim.x - 1 - blockIdx.x) * HELD, head = blockIdx.y, sequence = blockIdx.z;
    const int key_head = head / (int)(s.heads / s.key_heads);
    const int lane = threadIdx.x % 32, row0 = threadIdx.x / 32 * 16;
    const Band band(s, lengths, sequence);
    const float scale = rsqrtf((float)WIDTH), factor = scale * LOG2E;

    auto load = [&](int key, int slot) {
        fetch<ROWS>(ring + slot * 2 * TILE, k, sequence, s.allocated, s.key_heads, key_head, key, s.keys);
        fetch<ROWS>(ring + slot * 2 * TILE + TILE, v, sequence, s.allocated, s.key_heads, key_head, key, s.keys);
        copies_commit();
    };
    float out[WIDTH / 8][4] = {};
    float most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    const int begin = band.first_key(first), end = band.last_key(first);
    fetch<HELD>(queries, q, sequence, s.n, s.heads, head, first, s.n);
    load(begin, 0);
    for (int key = begin, slot = 0; key < end; key += ROWS, slot ^= 1) {
        copies_wait<0>();
        __syncthreads();
        if (key + ROWS < end) load(key + ROWS, slot ^ 1);
        const bf16 *keys = ring + slot * 2 * TILE, *values = keys + TILE;
        const int query0 = first + row0;
        if (!band.meets(query0, query0 + 15, key, key + ROWS - 1)) continue;
        const bool has_all = band.has_all(query0, query0 + 15, key, key + ROWS - 1);
        float p[8][4] = {};
        scores<8>(p, queries + row0 * PITCH, keys, lane);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = query0 + lane / 4 + half * 8;
            float next = most[half];
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float& x = p[j][half * 2 + e];
                    if (!has_all && !band.has(query, key + j * 8 + lane % 4 * 2 + e)) x = -INFINITY;
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
KERNEL __launch_bounds__(THREADS) attention_means(const float* o, const float* gradient, float* means, Sizes s) {
    const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, sequence = blockIdx.z, head = blockIdx.y;
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

KERNEL __launch_bounds__(THREADS, WIDTH > 64 ? 1 : 2) attention_keys_backward(const bf16* q, const bf16* k, const bf16* v, const int* lengths, const float* sums,
                                                          const float* means, const bf16* gradient, float* dk, float* dv, Sizes s) {
    DYNAMIC_SHARED
    bf16 *keys = (bf16*)shared, *values = keys + HELD_TILE, *ring = values + HELD_TILE;
    float* row_numbers = (float*)(ring + 4 * TILE);
    const int first = blockIdx.x * HELD, key_head = blockIdx.y, sequence = blockIdx.z, group = s.heads / s.key_heads;
    const int lane = threadIdx.x % 32, row0 = threadIdx.x / 32 * 16;
    const Band band(s, lengths, sequence);
    const float scale = rsqrtf((float)WIDTH), factor = scale * LOG2E;

    const int begin = band.first_query(first), end = band.last_query(first);
    const int tiles = end > begin ? (end - begin + ROWS - 1) / ROWS : 0, all = tiles * group;
    // one tile of queries after the other, for each head of the group
    auto load = [&](int tile, int slot) {
        const int head = key_head * group + tile / tiles, query = begin + tile % tiles * ROWS;
        fetch<ROWS>(ring + slot * 2 * TILE, q, sequence, s.n, s.heads, head, query, s.n);
        fetch<ROWS>(ring + slot * 2 * TILE + TILE, gradient, sequence, s.n, s.heads, head, query, s.n);
        copies_commit();
        if (threadIdx.x < 2 * ROWS) {
            const int row = query + threadIdx.x % ROWS;
            const long long at = (sequence * s.heads + head) * s.n + row;
            row_numbers[slot * 2 * ROWS + threadIdx.x] = row < s.n ? (threadIdx.x < ROWS ? sums : means)[at] : 0;
        }
    };
    fetch<HELD>(keys, k, sequence, s.allocated, s.key_heads, key_head, first, s.keys);
    fetch<HELD>(values, v, sequence, s.allocated, s.key_heads, key_head, first, s.keys);
    float key_sum[WIDTH / 8][4] = {}, value_sum[WIDTH / 8][4] = {};
    if (all > 0) load(0, 0);
    for (int tile = 0, slot = 0; tile < all; tile++, slot ^= 1) {
        copies_wait<0>();
        __syncthreads();
        if (tile + 1 < all) load(tile + 1, slot ^ 1);
        const bf16 *queries = ring + slot * 2 * TILE, *slopes = queries + TILE;
        const float *row_sums = row_numbers + slot * 2 * ROWS, *row_means = row_sums + ROWS;
        const int query = begin + tile % tiles * ROWS;
        for (int part = 0; part < ROWS; part += 32) {
            const int query0 = query + part, key0 = first + row0;
            if (!band.meets(query0, query0 + 31, key0, key0 + 15)) continue;
            const bool has_all = band.has_all(query0, query0 + 31, key0, key0 + 15);
            float p[4][4] = {}, dp[4][4] = {};
            scores<4>(p, keys + row0 * PITCH, queries + part * PITCH, lane);
            scores<4>(dp, values + row0 * PITCH, slopes + part * PITCH, lane);
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int column = part + j * 8 + lane % 4 * 2 + e % 2;
                    const bool has = has_all || band.has(query + column, key0 + lane / 4 + e / 2 * 8);
                    slope(p[j][e], dp[j][e], has, factor, row_sums[column], row_means[column]);
                }
            weigh<4>(value_sum, p, slopes + part * PITCH, lane);
            weigh<4>(key_sum, dp, queries + part * PITCH, lane);
        }
    }
    store(dk, key_sum, scale, scale, sequence, s.allocated, s.key_heads, key_head, first + row0, s.allocated, lane);
    store(dv, value_sum, 1, 1, sequence, s.allocated, s.key_heads, key_head, first + row0, s.allocated, lane);
}

KERNEL __launch_bounds__(THREADS, WIDTH > 64 ? 1 : 2) attention_queries_backward(const bf16* q, const bf16* k, const bf16* v, const int* lengths, const float* sums,
                                                             const float* means, const bf16* gradient, float* dq, Sizes s) {
    DYNAMIC_SHARED
    bf16 *queries = (bf16*)shared, *slopes = queries + HELD_TILE, *ring = slopes + HELD_TILE;
    const int first = (gridDim.x - 1 - blockIdx.x) * HELD, head = blockIdx.y, sequence = blockIdx.z;
    const int key_head = head / (int)(s.heads / s.key_heads);
    const int lane = threadIdx.x % 32, row0 = threadIdx.x / 32 * 16;
    const Band band(s, lengths, sequence);
    const float scale = rsqrtf((float)WIDTH), factor = scale * LOG2E;

    auto load = [&](int key, int slot) {
        fetch<ROWS>(ring + slot * 2 * TILE, k, sequence, s.allocated, s.key_heads, key_head, key, s.keys);
        fetch<ROWS>(ring + slot * 2 * TILE + TILE, v, sequence, s.allocated, s.key_heads, key_head, key, s.keys);
        copies_commit();
    };
    float row_sum[2], row_mean[2], sum[WIDTH / 8][4] = {};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int query = first + row0 + lane / 4 + half * 8;
        const long long at = (sequence * s.heads + head) * s.n + query;
        row_sum[half] = query < s.n ? sums[at] : 0;
        row_mean[half] = query < s.n ? means[at] : 0;
    }
    const int begin = band.first_key(first), end = band.last_key(first);
    fetch<HELD>(queries, q, sequence, s.n, s.heads, head, first, s.n);
    fetch<HELD>(slopes, gradient, sequence, s.n, s.heads, head, first, s.n);
    load(begin, 0);
    for (int key = begin, slot = 0; key < end; key += ROWS, slot ^= 1) {
        copies_wait<0>();
        __syncthreads();
        if (key + ROWS < end) load(key + ROWS, slot ^ 1);
        const bf16 *keys = ring + slot * 2 * TILE, *values = keys + TILE;
        for (int part = 0; part < ROWS; part += 32) {
            const int query0 = first + row0, key0 = key + part;
            if (!band.meets(query0, query0 + 15, key0, key0 + 31)) continue;
            const bool has_all = band.has_all(query0, query0 + 15, key0, key0 + 31);
            float p[4][4] = {}, dp[4][4] = {};
            scores<4>(p, queries + row0 * PITCH, keys + part * PITCH, lane);
            scores<4>(dp, slopes + row0 * PITCH, values + part * PITCH, lane);
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const bool has = has_all || band.has(query0 + lane / 4 + e / 2 * 8, key0 + j * 8 + lane % 4 * 2 + e % 2);
                    slope(p[j][e], dp[j][e], has, factor, row_sum[e / 2], row_mean[e / 2]);
                }
            weigh<4>(sum, dp, keys + part * PITCH, lane);
        }
    }
    store(dq, sum, scale, scale, sequence, s.n, s.heads, head, first + row0, s.n, lane);
}
