/* Times LightGBM's fast call for a single row: the least of several rounds over rows in turn, in microseconds.
 *
 *     cc -O2 single_row.c -ldl -o single_row && ./single_row lib_lightgbm.so model.txt rows.f32 columns
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Rounds are short and many, so that one of them has the core for itself on a machine with other work. */
enum { FLOAT32 = 0, RAW_SCORE = 1, ROUND_US = 4000, ROUNDS = 150 };

static void *found(void *library, const char *name) {
    void *symbol = dlsym(library, name);
    if (!symbol) {
        fprintf(stderr, "no %s in the library\n", name);
        exit(1);
    }
    return symbol;
}

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

int main(int count, char **words) {
    if (count != 5) return 2;
    void *library = dlopen(words[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int (*create)(const char *, int *, void **) = found(library, "LGBM_BoosterCreateFromModelfile");
    int (*init)(void *, int, int, int, int, int32_t, const char *, void **) =
        found(library, "LGBM_BoosterPredictForMatSingleRowFastInit");
    int (*predict)(void *, const void *, int64_t *, double *) =
        found(library, "LGBM_BoosterPredictForMatSingleRowFast");
    int columns = atoi(words[4]), trees;
    void *booster, *fast;
    if (create(words[2], &trees, &booster)) return 1;
    if (init(booster, RAW_SCORE, 0, -1, FLOAT32, columns, "num_threads=1", &fast)) return 1;
    FILE *file = fopen(words[3], "rb");
    if (!file) return 1;
    fseek(file, 0, SEEK_END);
    long rows = ftell(file) / (long)(columns * sizeof(float));
    rewind(file);
    float *cells = malloc(rows * columns * sizeof(float));
    if (fread(cells, columns * sizeof(float), rows, file) != (size_t)rows) return 1;
    double least = 1e300, sum = 0;
    long row = 0, calls = 1;
    for (int round = 0; round < ROUNDS; round++) {
        double began = now_us();
        for (long call = 0; call < calls; call++) {
            double margin;
            int64_t length;
            if (predict(fast, cells + row * columns, &length, &margin)) return 1;
            sum += margin;
            if (++row == rows) row = 0;
        }
        double each = (now_us() - began) / calls;
        if (round > 0 && each < least) least = each;
        calls = (long)(ROUND_US / each) + 1;
    }
    printf("%d trees, %.4f us a row (sum %g)\n", trees, least, sum);
    return 0;
}
