// What every kernel here is written with: 16-bit floats as bits, matrix instructions of one warp, asynchronous copies.
// Fragments are those of mma.m16n8k16: lane 4g+t holds rows g and g+8, columns 2t and 2t+1.

typedef unsigned short bf16;
typedef unsigned int u32;

#define LOG2E 1.44269504f

#ifndef EMULATED
#define KERNEL extern "C" __global__ void
#define INFINITY __int_as_float(0x7f800000)
#define DYNAMIC_SHARED extern __shared__ __align__(16) unsigned char shared[];

// Two floats rounded to nearest, the first in the lower half.
__device__ __forceinline__ u32 pack(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// c += a b
__device__ __forceinline__ void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 shared_address(const void* p) {
    return (u32)__cvta_generic_to_shared(p);
}

// Four 8x8 matrices, whose rows lanes 0-7, 8-15, 16-23 and 24-31 point to.
__device__ __forceinline__ void ldmatrix(u32 (&r)[4], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// The same, each of them transposed.
__device__ __forceinline__ void ldmatrix_transposed(u32 (&r)[4], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// 16 bytes to shared memory, zeros where not valid.
__device__ __forceinline__ void copy_async(bf16* to, const bf16* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

__device__ __forceinline__ void copies_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most N groups are under way.
template <int N> __device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#endif

__device__ __forceinline__ float sum_of_warp(float x) {
    for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

// Where lane points for the fragment of a 16x16 left operand stored [rows][depth].
__device__ __forceinline__ const bf16* left(const bf16* tile, int pitch, int lane) {
    return tile + (lane % 16) * pitch + lane / 16 * 8;
}

// For one stored [depth][rows], to be read transposed.
__device__ __forceinline__ const bf16* left_transposed(const bf16* tile, int pitch, int lane) {
    return tile + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8;
}

// For the fragments of two right operands of 8 columns, stored [columns][depth]: registers 0-1 and 2-3.
__device__ __forceinline__ const bf16* right(const bf16* tile, int pitch, int lane) {
    return tile + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8;
}

// For two stored [depth][columns], to be read transposed.
__device__ __forceinline__ const bf16* right_transposed(const bf16* tile, int pitch, int lane) {
    return tile + (lane % 16) * pitch + lane / 16 * 8;
}
