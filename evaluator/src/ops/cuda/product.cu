// c = a b for matrices of 16-bit floats, summed in 32 bits. A block of 256 threads makes 128x128 of c; its warps hold 64x32 each.
// Slices of depth 32 come through a ring of asynchronous copies. Compiled with LEFT_TRANSPOSED (a is stored [k][m]),
// RIGHT_TRANSPOSED (b is stored [n][k]), LEFT_ALIGNED and RIGHT_ALIGNED (rows are multiples of 16 bytes).

#define SIDE 128
#define DEPTH 32
#define STAGES 4
// pads keep the eight rows that one ldmatrix reads in different banks
#define DEPTH_PITCH (DEPTH + 8)
#define SIDE_PITCH (SIDE + 8)
#define TILE (SIDE * DEPTH_PITCH)

// A tile of an operand: DEPTH of its depth, SIDE of its other side, which is the row where DEPTH_IN_ROW.
template <bool DEPTH_IN_ROW, bool ALIGNED>
__device__ __forceinline__ void fetch(bf16* tile, const bf16* x, long long pitch, int side, int sides, int depth, int depths) {
    for (int i = 0; i < SIDE * DEPTH / 8 / 256; i++) {
        const int chunk = threadIdx.x + i * 256;
        const int per_row = (DEPTH_IN_ROW ? DEPTH : SIDE) / 8;
        const int r = chunk / per_row, c = chunk % per_row * 8;
        const int row = (DEPTH_IN_ROW ? side : depth) + r, column = (DEPTH_IN_ROW ? depth : side) + c;
        const int rows = DEPTH_IN_ROW ? sides : depths, columns = DEPTH_IN_ROW ? depths : sides;
        bf16* to = tile + r * (DEPTH_IN_ROW ? DEPTH_PITCH : SIDE_PITCH) + c;
        const bf16* from = x + row * pitch + column;
        if (ALIGNED) {
            const bool valid = row < rows && column < columns;
            copy_async(to, valid ? from : x, valid);
        } else {
            for (int j = 0; j < 8; j++) to[j] = row < rows && column + j < columns ? from[j] : (bf16)0;
        }
    }
}

KERNEL __launch_bounds__(256, 2) product(const bf16* a, const bf16* b, float* c, Sizes s) {
    DYNAMIC_SHARED
    bf16* ring = (bf16*)shared;
    const int m = s.m, n = s.n;
    const int m0 = blockIdx.x * SIDE, n0 = blockIdx.y * SIDE;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row0 = warp / 4 * 64, column0 = warp % 4 * 32;
    const int per_part = ((int)((s.k + s.parts - 1) / s.parts) + DEPTH - 1) / DEPTH * DEPTH;
    const int from = blockIdx.z * per_part;
    const int to = from + per_part < s.k ? from + per_part : (int)s.k;
    const int slices = to > from ? (to - from + DEPTH - 1) / DEPTH : 0;

    float sum[4][4][4] = {};
    auto load = [&](int slice) {
        if (slice < slices) {
            bf16* left_tile = ring + slice % STAGES * 2 * TILE;
            const int depth = from + slice * DEPTH;
            fetch<!LEFT_TRANSPOSED, LEFT_ALIGNED>(left_tile, a, s.a_pitch, m0, m, depth, to);
            fetch<RIGHT_TRANSPOSED, RIGHT_ALIGNED>(left_tile + TILE, b, s.b_pitch, n0, n, depth, to);
        }
        copies_commit();
    };
    for (int slice = 0; slice < STAGES - 1; slice++) load(slice);
    for (int slice = 0; slice < slices; slice++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        load(slice + STAGES - 1);
        const bf16* left_tile = ring + slice % STAGES * 2 * TILE;
        const bf16* right_tile = left_tile + TILE;
#pragma unroll
        for (int d = 0; d < DEPTH; d += 16) {
            u32 rows[4][4], columns[2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (LEFT_TRANSPOSED)
                    ldmatrix_transposed(rows[i], left_transposed(left_tile + d * SIDE_PITCH + row0 + i * 16, SIDE_PITCH, lane));
                else
                    ldmatrix(rows[i], left(left_tile + (row0 + i * 16) * DEPTH_PITCH + d, DEPTH_PITCH, lane));
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                if (RIGHT_TRANSPOSED)
                    ldmatrix(columns[j], right(right_tile + (column0 + j * 16) * DEPTH_PITCH + d, DEPTH_PITCH, lane));
                else
                    ldmatrix_transposed(columns[j], right_transposed(right_tile + d * SIDE_PITCH + column0 + j * 16, SIDE_PITCH, lane));
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) mma(sum[i][j], rows[i], columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1]);
        }
    }
    c += blockIdx.z * s.m * s.n;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const long long row = m0 + row0 + i * 16 + half * 8 + lane / 4;
                store_pair(c, s, row, n0 + column0 + j * 8 + lane % 4 * 2, sum[i][j] + half * 2);
            }
}
