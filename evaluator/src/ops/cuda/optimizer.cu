// The optimizer's work on up to 16 tensors at a time, one for each blockIdx.y: a model has a hundred tensors, most of them
// small, and a launch for each costs more than its work. Blocks of 256 threads go over their tensor in turns.

#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)

struct Sizes {
    // elements of each tensor, 0 where there is none
    long long n[16];
    // where the partial sums of the first tensor begin
    long long first;
    // 1 - learning rate * weight decay of each
    float keep[16];
    float gradient_scale, beta1, beta2, correction1, correction2, epsilon, rate, unused;
};

#define STEP_PARAMETERS(i) float *w##i, float *m##i, float *v##i, const float *g##i,
#define STEP_CASE(i) case i: w = w##i, m = m##i, v = v##i, gradient = g##i; break;

// A step of AdamW (1711.05101), in place.
KERNEL adamw_steps(EACH(STEP_PARAMETERS) Sizes s) {
    float *w = 0, *m = 0, *v = 0;
    const float* gradient = 0;
    switch (blockIdx.y) { EACH(STEP_CASE) }
    const float keep = s.keep[blockIdx.y];
    const long long n = s.n[blockIdx.y];
    for (long long i = (long long)blockIdx.x * 256 + threadIdx.x; i < n; i += (long long)gridDim.x * 256) {
        const float g = gradient[i] * s.gradient_scale;
        m[i] = m[i] * s.beta1 + g * (1 - s.beta1);
        v[i] = v[i] * s.beta2 + g * g * (1 - s.beta2);
        w[i] = w[i] * keep - m[i] / s.correction1 / (sqrtf(v[i] / s.correction2) + s.epsilon) * s.rate;
    }
}

#define SQUARES_PARAMETERS(i) const float *x##i,
#define SQUARES_CASE(i) case i: x = x##i; break;

// Sums of squares, one of each block: those of a tensor lie side by side, tensor after tensor.
KERNEL squares(EACH(SQUARES_PARAMETERS) float* partial, Sizes s) {
    __shared__ float sums[8];
    const float* x = 0;
    switch (blockIdx.y) { EACH(SQUARES_CASE) }
    float sum = 0;
    const long long n = s.n[blockIdx.y];
    for (long long i = (long long)blockIdx.x * 256 + threadIdx.x; i < n; i += (long long)gridDim.x * 256) sum += x[i] * x[i];
    sum = sum_of_warp(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        float all = 0;
        for (int i = 0; i < 8; i++) all += sums[i];
        partial[s.first + blockIdx.y * gridDim.x + blockIdx.x] = all;
    }
}
