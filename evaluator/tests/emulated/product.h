// One product against sums in 64 bits.

// a [m, k] and b [k, n], each perhaps stored turned; c in `parts` that are added up.
static void check_product(int m, int n, int k, int parts, Place side, size_t shared_bytes) {
    const auto a = rounded(random_floats(m * k)), b = rounded(random_floats(k * n));
    auto c = nothing(parts * m * n);
    const Sizes s{m, n, k, LEFT_TRANSPOSED ? m : k, RIGHT_TRANSPOSED ? k : n, parts};
    const Place blocks{(m + side.x - 1) / side.x, (n + side.y - 1) / side.y, parts};
    launch(blocks, 256, shared_bytes, [&] { product(a.data(), b.data(), c.data(), s); });
    std::vector<float> sum(m * n, 0);
    std::vector<double> expected(m * n, 0);
    for (int i = 0; i < m * n; i++) {
        for (int p = 0; p < parts; p++) sum[i] += c[p * m * n + i];
        for (int j = 0; j < k; j++)
            expected[i] += wide(LEFT_TRANSPOSED ? a[j * m + i / n] : a[i / n * k + j]) * wide(RIGHT_TRANSPOSED ? b[i % n * k + j] : b[j * n + i % n]);
    }
    compare("product", sum, expected, 1e-6);
}
