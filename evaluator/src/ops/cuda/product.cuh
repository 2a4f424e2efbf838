// What both kernels of products share.

struct Sizes {
    long long m, n, k;
    // elements from one stored row to the next
    long long a_pitch, b_pitch;
    // parts that the depth is cut into, each with a c of its own
    long long parts;
};

// Two sums side by side into c [m, n], those that lie within.
__device__ __forceinline__ void store_pair(float* c, const Sizes& s, long long row, int column, const float* x) {
    const int m = s.m, n = s.n;
    float* to = c + row * s.n + column;
    if (row < m && column + 1 < n && n % 2 == 0) {
        *(float2*)to = make_float2(x[0], x[1]);
    } else if (row < m) {
        if (column < n) to[0] = x[0];
        if (column + 1 < n) to[1] = x[1];
    }
}

