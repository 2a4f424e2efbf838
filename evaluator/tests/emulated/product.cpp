// product.cu against sums in 64 bits, at sizes that no tile divides.
#include "emulation.h"
#include "product.cu"

int main() {
    const int shapes[][4] = {{130, 72, 96, 1}, {40, 200, 136, 3}, {33, 17, 23, 1}, {70, 65, 41, 2}};
    for (auto& [m, n, k, parts] : shapes) {
        if (((LEFT_TRANSPOSED ? m : k) % 8 == 0) != LEFT_ALIGNED || ((RIGHT_TRANSPOSED ? k : n) % 8 == 0) != RIGHT_ALIGNED) continue;
        const auto a = rounded(random_floats(m * k)), b = rounded(random_floats(k * n));
        auto c = nothing(parts * m * n);
        const Sizes s{m, n, k, LEFT_TRANSPOSED ? m : k, RIGHT_TRANSPOSED ? k : n, parts};
        launch({(m + SIDE - 1) / SIDE, (n + SIDE - 1) / SIDE, parts}, 256, STAGES * 2 * TILE * 2, [&] { product(a.data(), b.data(), c.data(), s); });
        std::vector<float> sum(m * n, 0);
        std::vector<double> expected(m * n, 0);
        for (int i = 0; i < m * n; i++) {
            for (int p = 0; p < parts; p++) sum[i] += c[p * m * n + i];
            for (int j = 0; j < k; j++)
                expected[i] += wide(LEFT_TRANSPOSED ? a[j * m + i / n] : a[i / n * k + j]) * wide(RIGHT_TRANSPOSED ? b[i % n * k + j] : b[j * n + i % n]);
        }
        compare("product", sum, expected, 1e-6);
    }
}
