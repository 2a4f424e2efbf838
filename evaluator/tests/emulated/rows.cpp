// rows.cu against its formulas.
#include "emulation.h"
#include "rows.cu"

int main() {
    const int rows = 150, width = 37, numbers_of = 11;
    const float epsilon = 1e-5f;
    const Sizes s{rows, width, (rows + CHUNK - 1) / CHUNK, epsilon, 0};
    const Place of_rows{(rows + 3) / 4, 1, 1};
    const auto x = random_floats(rows * width), w = random_floats(width), g = random_floats(rows * width);
    auto y = nothing(rows * width), inverse = nothing(rows), dx = nothing(rows * width), dw = nothing(width);
    auto parts = nothing(s.chunks * width);
    launch(of_rows, 128, 0, [&] { rms_norm_forward(x.data(), w.data(), y.data(), inverse.data(), s); });
    launch(of_rows, 128, 0, [&] { rms_norm_backward(x.data(), w.data(), inverse.data(), g.data(), dx.data(), s); });
    launch({1, (int)s.chunks, 1}, 128, 0, [&] { rms_norm_weights(x.data(), inverse.data(), g.data(), parts.data(), s); });
    launch({1, 1, 1}, 256, 0, [&] { sum_of_chunks(parts.data(), dw.data(), s); });
    std::vector<double> y2(rows * width), dx2(rows * width), dw2(width);
    for (int r = 0; r < rows; r++) {
        double squares = 0, mean = 0;
        for (int i = 0; i < width; i++) squares += x[r * width + i] * x[r * width + i];
        const double scale = 1 / std::sqrt(squares / width + epsilon);
        for (int i = 0; i < width; i++) mean += (double)g[r * width + i] * w[i] * x[r * width + i] * scale * scale / width;
        for (int i = 0; i < width; i++) {
            const int at = r * width + i;
            y2[at] = x[at] * scale * w[i];
            dx2[at] = (g[at] * w[i] - x[at] * mean) * scale;
            dw2[i] += g[at] * x[at] * scale;
        }
    }
    compare("norm", y, y2, 1e-6);
    compare("norm, of rows", dx, dx2, 1e-5);
    compare("norm, of weights", dw, dw2, 1e-5);

    std::vector<int> targets, numbers;
    for (int r = 0; r < rows; r++) targets.push_back(r % 4 ? r % width : -1), numbers.push_back(r * r % numbers_of);
    const float share = 0.01f;
    auto losses = nothing(rows), slopes = nothing(rows * width), table = nothing(numbers_of * width);
    launch(of_rows, 128, 0, [&] { cross_entropy_rows(x.data(), targets.data(), &share, losses.data(), slopes.data(), s); });
    launch({numbers_of, 1, 1}, 256, 0, [&] { embedding_backward(numbers.data(), g.data(), table.data(), s); });
    std::vector<double> losses2(rows), slopes2(rows * width), table2(numbers_of * width);
    for (int r = 0; r < rows; r++) {
        double total = 0;
        for (int i = 0; i < width; i++) {
            total += std::exp((double)x[r * width + i]);
            table2[numbers[r] * width + i] += g[r * width + i];
        }
        if (targets[r] < 0) continue;
        losses2[r] = (std::log(total) - x[r * width + targets[r]]) * share;
        for (int i = 0; i < width; i++) slopes2[r * width + i] = (std::exp((double)x[r * width + i]) / total - (i == targets[r])) * share;
    }
    compare("cross-entropy", losses, losses2, 1e-5);
    compare("cross-entropy, of logits", slopes, slopes2, 1e-5);
    compare("embedding, of the table", table, table2, 1e-6);
}
