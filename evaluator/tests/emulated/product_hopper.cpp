// product_hopper.cu against sums in 64 bits, with the matrix unit's reading of layouts written out.
#include "emulation.h"

typedef unsigned long long u64;
static void multiply(float (&d)[64], u64 a, u64 b);
static void show_shared() {}
static void products_begin() {}
static void products_commit() {}
template <int N> static void products_wait() {}

#include "product.cuh"
#include "product_hopper.cu"
#include "product.h"

// An element of an operand whose depth lies in rows of 128 bytes, or whose other side does, in blocks of 64. The hardware
// exchanges bits 4-6 of an address with the row, bits 7-9.
static float element(u64 description, bool depth_in_row, int side, int depth) {
    const u64 start = (description & 0x3fff) * 16, to_next_block = (description >> 16 & 0x3fff) * 16, to_next_eight = (description >> 32 & 0x3fff) * 16;
    if (description >> 62 != 1) fail("another exchange of bytes");
    u64 at = start;
    if (depth_in_row)
        at += side / 8 * to_next_eight + side % 8 * 128 + depth * 2;
    else
        at += side / 64 * to_next_block + depth / 8 * to_next_eight + depth % 8 * 128 + side % 64 * 2;
    return wide(*(bf16*)(shared_base() + (at ^ (at >> 7 & 7) << 4)));
}

static void multiply(float (&d)[64], u64 a, u64 b) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    for (int i = 0; i < 64; i++) {
        const int row = warp * 16 + lane / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) d[i] += element(a, !LEFT_TRANSPOSED, row, k) * element(b, RIGHT_TRANSPOSED, column, k);
    }
}

int main() {
    const size_t bytes = STAGES * (LEFT_TILE + RIGHT_TILE) * 2 + 1024;
    check_product(136, 264, 72, 1, {ROWS, COLUMNS, 1}, bytes);
    check_product(72, 40, 200, 2, {ROWS, COLUMNS, 1}, bytes);
}
