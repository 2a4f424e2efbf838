// attention.cu against the definition in 64 bits: grouped heads, windows, both directions, padding, queries of another sequence.
#include "emulation.h"
#include "attention.cu"

struct Case {
    int b, n, keys, allocated, heads, key_heads, offset, window, ahead;
    std::vector<int> lengths;
    int padded;
};

int main() {
    const std::vector<Case> cases = {
        {1, 70, 70, 70, 2, 1, 0, 1000, 0, {}, 0},          {2, 100, 100, 100, 1, 1, 0, 1000, 1000, {100, 37}, 1},
        {1, 150, 150, 150, 1, 1, 0, 9, 0, {}, 0},          {1, 20, 90, 96, 2, 1, 60, 1000, 0, {}, 0},
        {1, 80, 80, 80, 1, 1, 0, 5, 7, {}, 0},             {2, 30, 70, 70, 1, 1, 0, 1000, 1000, {70, 9}, 2},
    };
    const int d = WIDTH;
    for (auto& c : cases) {
        const size_t queries = c.b * c.n * c.heads, keys = c.b * c.allocated * c.key_heads;
        const auto q = random_floats(queries * d), k = random_floats(keys * d), v = random_floats(keys * d), gradient = random_floats(queries * d);
        const auto q16 = rounded(q), k16 = rounded(k), v16 = rounded(v), gradient16 = rounded(gradient);
        auto o = nothing(queries * d), sums = nothing(queries), means = nothing(queries);
        auto dq = nothing(queries * d), dk = nothing(keys * d), dv = nothing(keys * d);
        const Sizes s{c.n, c.keys, c.allocated, c.heads, c.key_heads, c.offset, c.window, c.ahead, c.padded};
        const int* lengths = c.lengths.data();
        const int of_queries = (c.n + HELD - 1) / HELD, of_keys = (c.allocated + HELD - 1) / HELD;
        const size_t bytes = (2 * HELD_TILE + 4 * TILE) * 2 + 4 * ROWS * 4;
        launch({of_queries, c.heads, c.b}, THREADS, bytes, [&] { attention_forward(q16.data(), k16.data(), v16.data(), lengths, o.data(), sums.data(), s); });
        launch({(c.n + 7) / 8, c.heads, c.b}, THREADS, 0, [&] { attention_means(o.data(), gradient.data(), means.data(), s); });
        launch({of_keys, c.key_heads, c.b}, THREADS, bytes, [&] {
            attention_keys_backward(q16.data(), k16.data(), v16.data(), lengths, sums.data(), means.data(), gradient16.data(), dk.data(), dv.data(), s);
        });
        launch({of_queries, c.heads, c.b}, THREADS, bytes, [&] {
            attention_queries_backward(q16.data(), k16.data(), v16.data(), lengths, sums.data(), means.data(), gradient16.data(), dq.data(), s);
        });
        std::vector<double> o2(queries * d), dq2(queries * d), dk2(keys * d), dv2(keys * d);
        for (int b = 0; b < c.b; b++)
            for (int h = 0; h < c.heads; h++) {
                const int there = c.padded == 1 ? c.lengths[b] : c.n, all = c.padded ? c.lengths[b] : c.keys;
                for (int i = 0; i < there; i++) {
                    const size_t row = ((size_t)(b * c.n + i) * c.heads + h) * d;
                    auto key = [&](int j) { return ((size_t)(b * c.allocated + j) * c.key_heads + h / (c.heads / c.key_heads)) * d; };
                    auto has = [&](int j) { return j - c.offset - i <= c.ahead && c.offset + i - j < c.window; };
                    std::vector<double> p(all), dp(all);
                    double total = 0, mean = 0;
                    for (int j = 0; j < all; j++) {
                        for (int x = 0; x < d; x++) p[j] += (double)q[row + x] * k[key(j) + x];
                        total += p[j] = has(j) ? std::exp(p[j] / std::sqrt(d)) : 0;
                    }
                    for (int j = 0; j < all; j++) {
                        p[j] /= total;
                        for (int x = 0; x < d; x++) {
                            o2[row + x] += p[j] * v[key(j) + x];
                            dp[j] += (double)gradient[row + x] * v[key(j) + x];
                        }
                        mean += p[j] * dp[j];
                    }
                    for (int j = 0; j < all; j++) {
                        const double slope = p[j] * (dp[j] - mean) / std::sqrt(d);
                        for (int x = 0; x < d; x++) {
                            dv2[key(j) + x] += p[j] * gradient[row + x];
                            dk2[key(j) + x] += slope * q[row + x];
                            dq2[row + x] += slope * k[key(j) + x];
                        }
                    }
                }
            }
        // 16-bit operands keep 8 bits
        compare("output", o, o2, 8e-3);
        compare("of queries", dq, dq2, 8e-3);
        compare("of keys", dk, dk2, 8e-3);
        compare("of values", dv, dv2, 8e-3);
    }
}
