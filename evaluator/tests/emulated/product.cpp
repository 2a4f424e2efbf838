// product.cu against sums in 64 bits, at sizes that no tile divides.
#include "emulation.h"
#include "product.cuh"
#include "product.cu"
#include "product.h"

int main() {
    const int shapes[][4] = {{130, 72, 96, 1}, {40, 200, 136, 3}, {33, 17, 23, 1}, {70, 65, 41, 2}};
    for (auto& [m, n, k, parts] : shapes) {
        if (((LEFT_TRANSPOSED ? m : k) % 8 == 0) != LEFT_ALIGNED || ((RIGHT_TRANSPOSED ? k : n) % 8 == 0) != RIGHT_ALIGNED) continue;
        check_product(m, n, k, parts, {SIDE, SIDE, 1}, STAGES * 2 * TILE * 2);
    }
}
