// CUDA's model of execution on a processor, as far as the kernels of src/ops/cuda use it: a thread of the system for each of a
// block, blocks one after the other, warps that meet where they exchange. Slow, and exact about who reads what when.
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#define EMULATED
#define KERNEL static void
#define __launch_bounds__(...)
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define DYNAMIC_SHARED unsigned char* shared = block->shared();

typedef unsigned short bf16;
typedef unsigned int u32;
struct Place { int x = 1, y = 1, z = 1; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint2 { u32 x, y; };
static float2 make_float2(float x, float y) { return {x, y}; }
static uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
static float rsqrtf(float x) { return 1 / std::sqrt(x); }

struct Warp {
    std::barrier<> meeting{32};
    u32 registers[32][8];
    const bf16* rows[32];
    void meet() { meeting.arrive_and_wait(); }
};

struct Block {
    std::barrier<> meeting;
    std::vector<std::unique_ptr<Warp>> warps;
    std::vector<unsigned char> bytes;
    // what nobody wrote is not a number
    Block(int threads, size_t shared_bytes) : meeting(threads), bytes(shared_bytes + 16, 0xff) {
        for (int w = 0; w < threads / 32; w++) warps.push_back(std::make_unique<Warp>());
    }
    unsigned char* shared() { return (unsigned char*)(((size_t)bytes.data() + 15) / 16 * 16); }
};

static Block* block;
static Place gridDim;
static thread_local Place threadIdx, blockIdx;
static thread_local int my_lane;
static thread_local Warp* my_warp;

static void fail(const char* why) { printf("%s\n", why); exit(1); }
static void check_aligned(const void* p) { if ((size_t)p % 16) fail("16 bytes that are not aligned"); }
static u32 bits_of(float x) { u32 u; memcpy(&u, &x, 4); return u; }
static float float_of(u32 u) { float x; memcpy(&x, &u, 4); return x; }
static float wide(bf16 x) { return float_of((u32)x << 16); }
static bf16 rounded(float x) {
    const u32 u = bits_of(x);
    if ((u & 0x7f800000) == 0x7f800000) return u >> 16;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

static void __syncthreads() { block->meeting.arrive_and_wait(); }
template <typename Read> static auto exchange(u32 mine, Read read) {
    my_warp->registers[my_lane][0] = mine;
    my_warp->meet();
    const auto result = read();
    my_warp->meet();
    return result;
}
static float __shfl_xor_sync(u32, float x, int mask) {
    return exchange(bits_of(x), [&] { return float_of(my_warp->registers[my_lane ^ mask][0]); });
}
static u32 __ballot_sync(u32, bool x) {
    return exchange(x, [] {
        u32 all = 0;
        for (int lane = 0; lane < 32; lane++) all |= my_warp->registers[lane][0] << lane;
        return all;
    });
}
static int __popc(u32 x) { return __builtin_popcount(x); }

static u32 pack(float low, float high) { return rounded(low) | (u32)rounded(high) << 16; }
static void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    auto& r = my_warp->registers;
    for (int i = 0; i < 4; i++) r[my_lane][i] = a[i];
    r[my_lane][4] = b0;
    r[my_lane][5] = b1;
    my_warp->meet();
    auto half = [](u32 pair, int k) { return wide(k & 1 ? pair >> 16 : pair & 0xffff); };
    for (int e = 0; e < 4; e++) {
        const int row = my_lane / 4 + e / 2 * 8, column = my_lane % 4 * 2 + e % 2;
        for (int k = 0; k < 16; k++)
            c[e] += half(r[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k) * half(r[column * 4 + k % 8 / 2][4 + k / 8], k);
    }
    my_warp->meet();
}
static void load(u32 (&r)[4], const bf16* row, bool transposed) {
    check_aligned(row);
    my_warp->rows[my_lane] = row;
    my_warp->meet();
    const int g = my_lane / 4, t = my_lane % 4 * 2;
    for (int m = 0; m < 4; m++) {
        auto at = [&](int i, int j) { return (u32)my_warp->rows[m * 8 + i][j]; };
        r[m] = transposed ? at(t, g) | at(t + 1, g) << 16 : at(g, t) | at(g, t + 1) << 16;
    }
    my_warp->meet();
}
static void ldmatrix(u32 (&r)[4], const bf16* row) { load(r, row, false); }
static void ldmatrix_transposed(u32 (&r)[4], const bf16* row) { load(r, row, true); }
static void copy_async(bf16* to, const bf16* from, bool valid) {
    check_aligned(to);
    check_aligned(from);
    if (valid) memcpy(to, from, 16); else memset(to, 0, 16);
}
// Addresses in shared memory count from a multiple of what the largest layout repeats after.
static unsigned char* shared_base() { return (unsigned char*)((size_t)block->shared() / 1024 * 1024); }
static u32 shared_address(const void* p) { return (const unsigned char*)p - shared_base(); }
static void copies_commit() {}
template <int N> static void copies_wait() {}

#include "common.cuh"

static void launch(Place blocks, int threads, size_t shared_bytes, std::function<void()> kernel) {
    gridDim = blocks;
    for (int z = 0; z < blocks.z; z++)
        for (int y = 0; y < blocks.y; y++)
            for (int x = 0; x < blocks.x; x++) {
                Block here(threads, shared_bytes);
                block = &here;
                std::vector<std::thread> all;
                for (int t = 0; t < threads; t++)
                    all.emplace_back([&, t] {
                        threadIdx = {t, 0, 0};
                        blockIdx = {x, y, z};
                        my_lane = t % 32;
                        my_warp = here.warps[t / 32].get();
                        kernel();
                        here.meeting.arrive_and_drop();
                        my_warp->meeting.arrive_and_drop();
                    });
                for (auto& thread : all) thread.join();
            }
}

static std::mt19937 generator(1);
static std::vector<float> random_floats(size_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> x(n);
    for (auto& y : x) y = normal(generator);
    return x;
}
static std::vector<bf16> rounded(const std::vector<float>& x) {
    std::vector<bf16> y;
    for (float v : x) y.push_back(rounded(v));
    return y;
}
static std::vector<float> nothing(size_t n) { return std::vector<float>(n, NAN); }

// Ends with a message where the relative distance of all elements together is above `most`, or one was never written.
static void compare(const char* what, const std::vector<float>& got, const std::vector<double>& expected, double most) {
    double apart = 0, size = 1e-30;
    for (size_t i = 0; i < got.size(); i++) {
        apart += (got[i] - expected[i]) * (got[i] - expected[i]);
        size += expected[i] * expected[i];
    }
    const double distance = std::sqrt(apart / size);
    printf("%s: %.1e\n", what, distance);
    if (!(distance <= most)) fail("too far apart");
}
