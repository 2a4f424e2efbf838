// c = a b for matrices of 16-bit floats, summed in 32 bits, on GPUs whose matrix unit reads both operands from shared memory
// (compute capability 9.0). Two groups of four warps make 128 x COLUMNS of c; each holds 64 rows. Slices of depth 64 come through a
// ring of asynchronous copies, two of them ahead, while the products of the slice before are under way.
// Compiled with LEFT_TRANSPOSED (a is stored [k][m]), RIGHT_TRANSPOSED (b is stored [n][k]), COLUMNS (a multiple of 128), STAGES.

typedef unsigned long long u64;

#define ROWS 128
#define DEPTH 64
#define LEFT_TILE (ROWS * DEPTH)
#define RIGHT_TILE (COLUMNS * DEPTH)
#define AHEAD (STAGES - 2)

// A tile, in blocks of 64 elements (128 bytes) of a stored row, whose 16-byte pieces change places with the row so that
// no two of eight rows meet in a bank. Where the depth lies in a row there is one block, else one for each 64 of the side.
template <bool DEPTH_IN_ROW, int SIDE>
__device__ __forceinline__ void fetch(bf16* tile, const bf16* x, long long pitch, int side, int sides, int depth, int depths) {
#pragma unroll
    for (int i = 0; i < SIDE * DEPTH / 8 / 256; i++) {
        const int piece = threadIdx.x + i * 256;
        const int per_row = (DEPTH_IN_ROW ? DEPTH : SIDE) / 8;
        const int r = piece / per_row, c = piece % per_row;
        const int row = (DEPTH_IN_ROW ? side : depth) + r, column = (DEPTH_IN_ROW ? depth : side) + c * 8;
        const int rows = DEPTH_IN_ROW ? sides : depths, columns = DEPTH_IN_ROW ? depths : sides;
        const int block_rows = DEPTH_IN_ROW ? SIDE : DEPTH;
        const bool valid = row < rows && column < columns;
        copy_async(tile + (c / 8 * block_rows + r) * 64 + (c % 8 ^ r % 8) * 8, valid ? x + row * pitch + column : x, valid);
    }
}

// Where a tile lies and how: pieces exchanged over 128 bytes, 1024 bytes from eight rows to the next, one block after the other.
template <bool DEPTH_IN_ROW>
__device__ __forceinline__ u64 description(const bf16* tile) {
    const u64 to_next_block = DEPTH_IN_ROW ? 1 : DEPTH * 128 / 16;
    return (u64)((shared_address(tile) & 0x3ffff) / 16) | to_next_block << 16 | (u64)(1024 / 16) << 32 | 1ull << 62;
}

#ifndef EMULATED
// d += 64 rows of a times 128 columns of b, over a depth of 16
__device__ __forceinline__ void multiply(float (&d)[64], u64 a, u64 b) {
    asm volatile("{.reg .pred add; setp.eq.u32 add, 1, 1; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
                 "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                 "}, %64, %65, add, 1, 1, %66, %67;}"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
                   "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]),
                   "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]),
                   "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
                   "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]),
                   "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]),
                   "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),
                   "+f"(d[63])
                 : "l"(a), "l"(b), "n"(LEFT_TRANSPOSED), "n"(!RIGHT_TRANSPOSED));
}

// What was written to shared memory is there for the matrix unit.
__device__ __forceinline__ void show_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most N groups of products are under way.
template <int N> __device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
#endif

KERNEL __launch_bounds__(256) product(const bf16* a, const bf16* b, float* c, Sizes s) {
    DYNAMIC_SHARED
    bf16* ring = (bf16*)(((u64)shared + 1023) / 1024 * 1024);
    const int m = s.m, n = s.n;
    const int m0 = blockIdx.x * ROWS, n0 = blockIdx.y * COLUMNS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, group = threadIdx.x / 128;
    const int per_part = ((int)((s.k + s.parts - 1) / s.parts) + DEPTH - 1) / DEPTH * DEPTH;
    const int from = blockIdx.z * per_part;
    const int to = from + per_part < s.k ? from + per_part : (int)s.k;
    const int slices = to > from ? (to - from + DEPTH - 1) / DEPTH : 0;

    float sum[COLUMNS / 128][64] = {};
    auto load = [&](int slice) {
        if (slice < slices) {
            bf16* left_tile = ring + slice % STAGES * (LEFT_TILE + RIGHT_TILE);
            const int depth = from + slice * DEPTH;
            fetch<!LEFT_TRANSPOSED, ROWS>(left_tile, a, s.a_pitch, m0, m, depth, to);
            fetch<RIGHT_TRANSPOSED, COLUMNS>(left_tile + LEFT_TILE, b, s.b_pitch, n0, n, depth, to);
        }
        copies_commit();
    };
    for (int slice = 0; slice < AHEAD; slice++) load(slice);
    for (int slice = 0; slice < slices; slice++) {
        copies_wait<AHEAD - 1>();
        show_shared();
        __syncthreads();
        const bf16* left_tile = ring + slice % STAGES * (LEFT_TILE + RIGHT_TILE);
        const bf16* right_tile = left_tile + LEFT_TILE;
        const u64 left_rows = description<!LEFT_TRANSPOSED>(left_tile + group * 64 * 64);
        products_begin();
#pragma unroll
        for (int d = 0; d < DEPTH / 16; d++)
#pragma unroll
            for (int j = 0; j < COLUMNS / 128; j++) {
                const u64 right_columns = description<RIGHT_TRANSPOSED>(right_tile + j * 128 * 64);
                // 16 of the depth: 32 bytes of a row, or 16 rows
                multiply(sum[j], left_rows + d * (LEFT_TRANSPOSED ? 128 : 2), right_columns + d * (RIGHT_TRANSPOSED ? 2 : 128));
            }
        products_commit();
        load(slice + AHEAD);
        products_wait<1>();
    }
    products_wait<0>();
    c += blockIdx.z * s.m * s.n;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const long long row = m0 + group * 64 + warp * 16 + half * 8 + lane / 4;
            store_pair(c, s, row, n0 + j * 8 + lane % 4 * 2, sum[j / 16] + j % 16 * 4 + half * 2);
        }
}
