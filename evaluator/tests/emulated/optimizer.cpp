// optimizer.cu against its formulas.
#include "emulation.h"
#include "optimizer.cu"

int main() {
    const int lengths[] = {7, 300, 1000, 1, 7000}, tensors = 5;
    std::vector<std::vector<float>> w, m, v, g;
    Sizes s{};
    s.first = 64, s.gradient_scale = 0.5f, s.beta1 = 0.9f, s.beta2 = 0.99f, s.correction1 = 0.271f, s.correction2 = 0.03f, s.epsilon = 1e-8f, s.rate = 0.01f;
    for (int i = 0; i < tensors; i++) {
        const int n = lengths[i];
        w.push_back(random_floats(n)), m.push_back(random_floats(n)), v.push_back(random_floats(n)), g.push_back(random_floats(n));
        for (auto& x : v[i]) x = std::fabs(x);
        s.n[i] = n, s.keep[i] = 1 - 0.01f * i;
    }
    const auto w0 = w, m0 = m, v0 = v;
    auto place = [&](std::vector<std::vector<float>>& all, int i) { return all[i < tensors ? i : 0].data(); };
#define STEP_ARGUMENTS(i) place(w, i), place(m, i), place(v, i), place(g, i),
#define SQUARES_ARGUMENTS(i) place(g, i),
    launch({3, tensors, 1}, 256, 0, [&] { adamw_steps(EACH(STEP_ARGUMENTS) s); });
    std::vector<float> partial(64 + tensors * 4, 0);
    launch({4, tensors, 1}, 256, 0, [&] { squares(EACH(SQUARES_ARGUMENTS) partial.data(), s); });
    for (int i = 0; i < tensors; i++) {
        std::vector<double> expected, squares{0};
        for (int j = 0; j < lengths[i]; j++) {
            const double slope = g[i][j] * 0.5, mean = m0[i][j] * 0.9 + slope * 0.1, spread = v0[i][j] * 0.99 + slope * slope * 0.01;
            expected.push_back(w0[i][j] * s.keep[i] - mean / s.correction1 / (std::sqrt(spread / s.correction2) + 1e-8) * 0.01);
            squares[0] += (double)g[i][j] * g[i][j];
        }
        compare("weights", w[i], expected, 1e-5);
        float sum = 0;
        for (int part = 0; part < 4; part++) sum += partial[64 + i * 4 + part];
        compare("squares", {sum}, squares, 1e-5);
    }
}
