// Operations on rows: a warp has a row, four rows a block of 128 threads; sums over rows are made in two steps of one order.

struct Sizes {
    long long rows, width, chunks;
    float epsilon, unused;
};

// Rows that one thread adds up for the gradient of a norm's weights.
#define CHUNK 128

__device__ __forceinline__ long long row_of_warp() { return (long long)blockIdx.x * 4 + threadIdx.x / 32; }

KERNEL rms_norm_forward(const float* x, const float* w, float* y, float* inverse, Sizes s) {
    const long long row = row_of_warp();
    const int lane = threadIdx.x % 32;
    if (row >= s.rows) return;
    x += row * s.width;
    y += row * s.width;
    float squares = 0;
    for (int i = lane; i < s.width; i += 32) squares += x[i] * x[i];
    const float scale = rsqrtf(sum_of_warp(squares) / s.width + s.epsilon);
    for (int i = lane; i < s.width; i += 32) y[i] = x[i] * scale * w[i];
    if (lane == 0) inverse[row] = scale;
}

KERNEL rms_norm_backward(const float* x, const float* w, const float* inverse, const float* g, float* dx, Sizes s) {
    const long long row = row_of_warp();
    const int lane = threadIdx.x % 32;
    if (row >= s.rows) return;
    x += row * s.width;
    g += row * s.width;
    dx += row * s.width;
    const float scale = inverse[row];
    float sum = 0;
    for (int i = lane; i < s.width; i += 32) sum += g[i] * w[i] * x[i];
    const float mean = sum_of_warp(sum) * scale * scale / s.width;
    for (int i = lane; i < s.width; i += 32) dx[i] = (g[i] * w[i] - x[i] * mean) * scale;
}

// Sums over CHUNK rows each, [chunks, width]; a thread has a column.
KERNEL rms_norm_weights(const float* x, const float* inverse, const float* g, float* sums, Sizes s) {
    const long long column = (long long)blockIdx.x * 128 + threadIdx.x;
    if (column >= s.width) return;
    const long long first = (long long)blockIdx.y * CHUNK, end = first + CHUNK < s.rows ? first + CHUNK : s.rows;
    float sum = 0;
    for (long long row = first; row < end; row++) sum += g[row * s.width + column] * x[row * s.width + column] * inverse[row];
    sums[blockIdx.y * s.width + column] = sum;
}

// y [width] = the sum of x [chunks, width] over chunks.
KERNEL sum_of_chunks(const float* x, float* y, Sizes s) {
    const long long i = (long long)blockIdx.x * 256 + threadIdx.x;
    if (i >= s.width) return;
    float sum = 0;
    for (long long chunk = 0; chunk < s.chunks; chunk++) sum += x[chunk * s.width + i];
    y[i] = sum;
}

// One over the number of scored targets, by one block.
KERNEL cross_entropy_weight(const int* targets, float* weight, Sizes s) {
    __shared__ float sums[32];
    float scored = 0;
    for (long long i = threadIdx.x; i < s.rows; i += 1024) scored += targets[i] >= 0;
    scored = sum_of_warp(scored);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = scored;
    __syncthreads();
    if (threadIdx.x == 0) {
        float all = 0;
        for (int i = 0; i < 32; i++) all += sums[i];
        weight[0] = 1 / fmaxf(all, 1);
    }
}

// The loss of each row, already weighted, and the gradient of its logits [rows, width].
KERNEL cross_entropy_rows(const float* x, const int* targets, const float* weight, float* losses, float* g, Sizes s) {
    const long long row = row_of_warp();
    const int lane = threadIdx.x % 32;
    if (row >= s.rows) return;
    x += row * s.width;
    g += row * s.width;
    const int target = targets[row];
    if (target < 0) {
        for (int i = lane; i < s.width; i += 32) g[i] = 0;
        if (lane == 0) losses[row] = 0;
        return;
    }
    float most = -INFINITY;
    for (int i = lane; i < s.width; i += 32) most = fmaxf(most, x[i]);
    for (int other = 16; other > 0; other /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, other));
    float sum = 0;
    for (int i = lane; i < s.width; i += 32) sum += exp2f((x[i] - most) * LOG2E);
    sum = sum_of_warp(sum);
    const float share = weight[0], scale = share / sum;
    for (int i = lane; i < s.width; i += 32) g[i] = exp2f((x[i] - most) * LOG2E) * scale - (i == target ? share : 0);
    if (lane == 0) losses[row] = (logf(sum) + most - x[target]) * share;
}

// y [1] = the sum of x [rows], by one block.
KERNEL sum_of_all(const float* x, float* y, Sizes s) {
    __shared__ float sums[32];
    float sum = 0;
    for (long long i = threadIdx.x; i < s.rows; i += 1024) sum += x[i];
    sum = sum_of_warp(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        float all = 0;
        for (int i = 0; i < 32; i++) all += sums[i];
        y[0] = all;
    }
}

// Row blockIdx.x of y [.., width] = the sum of the rows of g [rows, width] whose number it is, in their order. A thread has
// a column of blockIdx.y's 256; the block looks through the numbers 256 at a time and keeps those it wants.
KERNEL embedding_backward(const int* numbers, const float* g, float* y, Sizes s) {
    __shared__ int counts[8], wanted[256];
    const int row = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long column = (long long)blockIdx.y * 256 + threadIdx.x;
    float sum = 0;
    for (long long first = 0; first < s.rows; first += 256) {
        const long long i = first + threadIdx.x;
        const bool wants = i < s.rows && numbers[i] == row;
        const unsigned int of_warp = __ballot_sync(0xffffffffu, wants);
        if (lane == 0) counts[warp] = __popc(of_warp);
        __syncthreads();
        int before = 0, all = 0;
        for (int w = 0; w < 8; w++) {
            if (w < warp) before += counts[w];
            all += counts[w];
        }
        if (wants) wanted[before + __popc(of_warp & ((1u << lane) - 1))] = threadIdx.x;
        __syncthreads();
        if (column < s.width)
            for (int j = 0; j < all; j++) sum += g[(first + wanted[j]) * s.width + column];
        __syncthreads();
    }
    if (column < s.width) y[row * s.width + column] = sum;
}
