/* Ten workloads that compute. usage: compute NAME; prints "NAME NANOSECONDS CHECK". */
#define _GNU_SOURCE
#include <math.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static uint64_t random_state = 88172645463325252ULL;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t sieve(void)
{
    enum { LIMIT = 40000000 };
    unsigned char *composite = calloc(LIMIT + 1, 1);
    uint64_t count = 0;
    for (uint64_t i = 2; i <= LIMIT; i++) {
        if (composite[i])
            continue;
        count++;
        for (uint64_t k = i * i; k <= LIMIT; k += i)
            composite[k] = 1;
    }
    free(composite);
    return count;
}

static uint64_t nbody(void)
{
    enum { N = 5 };
    double x[N][3], v[N][3], m[N];
    for (int i = 0; i < N; i++) {
        m[i] = 1.0 / (i + 1);
        for (int d = 0; d < 3; d++) {
            x[i][d] = (i * 7 + d * 3) % 5 - 2.0 + 0.1 * i;
            v[i][d] = ((i + d) % 3 - 1) * 0.1;
        }
    }
    for (int step = 0; step < 3000000; step++) {
        for (int i = 0; i < N; i++) {
            for (int j = i + 1; j < N; j++) {
                double d[3], square = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = x[i][k] - x[j][k];
                    square += d[k] * d[k];
                }
                double magnitude = 0.001 / (square * sqrt(square));
                for (int k = 0; k < 3; k++) {
                    v[i][k] -= d[k] * m[j] * magnitude;
                    v[j][k] += d[k] * m[i] * magnitude;
                }
            }
        }
        for (int i = 0; i < N; i++)
            for (int k = 0; k < 3; k++)
                x[i][k] += 0.001 * v[i][k];
    }
    return (uint64_t)(fabs(x[0][0]) * 1e6);
}

static uint32_t rotate(uint32_t value, int by) { return value >> by | value << (32 - by); }

static uint64_t sha256(void)
{
    static uint32_t k[64];
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (int n = 0, p = 2; n < 64; p++) { /* the constants: cube roots of the first 64 primes */
        int prime = 1;
        for (int d = 2; d * d <= p; d++)
            prime &= p % d != 0;
        if (prime) {
            double root = cbrt(p);
            k[n++] = (uint32_t)((root - floor(root)) * 4294967296.0);
        }
    }
    static uint8_t data[1 << 20];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)next_random();
    for (int pass = 0; pass < 200; pass++) {
        for (size_t at = 0; at < sizeof data; at += 64) {
            uint32_t w[64], s[8];
            for (int i = 0; i < 16; i++)
                w[i] = (uint32_t)data[at + i * 4] << 24 | data[at + i * 4 + 1] << 16 | data[at + i * 4 + 2] << 8 | data[at + i * 4 + 3];
            for (int i = 16; i < 64; i++)
                w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3)
                    + (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
            memcpy(s, h, sizeof s);
            for (int i = 0; i < 64; i++) {
                uint32_t one = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
                uint32_t two = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
                memmove(s + 1, s, 7 * sizeof *s);
                s[4] += one;
                s[0] = one + two;
            }
            for (int i = 0; i < 8; i++)
                h[i] += s[i];
        }
    }
    return h[0];
}

static uint64_t copy(void)
{
    enum { SIZE = 64 << 20 };
    char *a = malloc(SIZE), *b = malloc(SIZE);
    memset(a, 1, SIZE);
    memset(b, 2, SIZE);
    for (int pass = 0; pass < 60; pass++) {
        memcpy(pass % 2 ? a : b, pass % 2 ? b : a, SIZE);
        a[pass * 4099] = (char)pass;
    }
    uint64_t sum = 0;
    for (int i = 0; i < SIZE; i += 4099)
        sum += (unsigned char)a[i];
    free(a);
    free(b);
    return sum;
}

static uint64_t matmul(void)
{
    enum { N = 768 };
    static double a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (i + j) % 7;
            b[i][j] = (i * j) % 5;
        }
    for (int pass = 0; pass < 3; pass++)
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++)
                for (int j = 0; j < N; j++)
                    c[i][j] += a[i][k] * b[k][j];
    return (uint64_t)c[N / 2][N / 3];
}

static uint64_t mandelbrot(void)
{
    uint64_t sum = 0;
    for (int py = 0; py < 900; py++)
        for (int px = 0; px < 900; px++) {
            double cr = px / 300.0 - 2.2, ci = py / 300.0 - 1.5, zr = 0, zi = 0;
            int n = 0;
            while (n < 300 && zr * zr + zi * zi < 4) {
                double t = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci;
                zr = t;
                n++;
            }
            sum += n;
        }
    return sum;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t quicksort(void)
{
    enum { N = 3000000 };
    uint64_t *values = malloc(N * sizeof *values), sum = 0;
    for (int i = 0; i < N; i++)
        values[i] = next_random();
    qsort(values, N, sizeof *values, ascending);
    for (int i = 0; i < N; i += 1000)
        sum ^= values[i];
    free(values);
    return sum;
}

static uint64_t base64(void)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    enum { SIZE = 3 << 20 };
    static unsigned char data[SIZE], back[SIZE], reverse[256];
    static char text[SIZE / 3 * 4];
    for (int i = 0; i < SIZE; i++)
        data[i] = (unsigned char)next_random();
    for (int i = 0; i < 64; i++)
        reverse[(unsigned char)alphabet[i]] = (unsigned char)i;
    uint64_t sum = 0;
    for (int pass = 0; pass < 60; pass++) {
        for (int i = 0, o = 0; i < SIZE; i += 3, o += 4) {
            uint32_t v = data[i] << 16 | data[i + 1] << 8 | data[i + 2];
            text[o] = alphabet[v >> 18];
            text[o + 1] = alphabet[v >> 12 & 63];
            text[o + 2] = alphabet[v >> 6 & 63];
            text[o + 3] = alphabet[v & 63];
        }
        for (int i = 0, o = 0; i < SIZE; i += 3, o += 4) {
            uint32_t v = reverse[(unsigned char)text[o]] << 18 | reverse[(unsigned char)text[o + 1]] << 12
                | reverse[(unsigned char)text[o + 2]] << 6 | reverse[(unsigned char)text[o + 3]];
            back[i] = v >> 16;
            back[i + 1] = v >> 8;
            back[i + 2] = v;
        }
        sum += back[pass * 1000];
        data[pass]++;
    }
    return sum + (memcmp(data + 100, back + 100, SIZE - 100) != 0) * 1000000;
}

static uint64_t scan(void)
{
    enum { SIZE = 32 << 20 };
    char *text = malloc(SIZE + 1);
    for (int i = 0; i < SIZE; i++) {
        unsigned r = next_random() % 32;
        text[i] = r < 26 ? (char)('a' + r) : r < 31 ? ' ' : '\n';
    }
    text[SIZE] = 0;
    uint64_t words = 0, lines = 0, found = 0;
    for (int pass = 0; pass < 6; pass++) {
        int inside = 0;
        for (int i = 0; i < SIZE; i++) {
            int space = text[i] == ' ' || text[i] == '\n';
            words += inside & space;
            lines += text[i] == '\n';
            inside = !space;
        }
        for (char *at = text; (at = strstr(at, "abc")); at++)
            found++;
    }
    free(text);
    return words ^ lines << 20 ^ found << 40;
}

static int sum_row(void *sum, int columns, char **values, char **names)
{
    (void)columns;
    (void)names;
    *(uint64_t *)sum += strtoull(values[0] ? values[0] : "0", NULL, 10);
    return 0;
}

static uint64_t sqlite(void)
{
    sqlite3 *db;
    uint64_t sum = 0;
    char path[] = "/tmp/bench-XXXXXX";
    close(mkstemp(path));
    if (sqlite3_open(path, &db))
        exit(1);
    const char *const statements[] = {
        "pragma journal_mode = wal; pragma synchronous = off; create table t(a integer primary key, b integer, c text)",
        "begin; with recursive n(x) as (select 1 union all select x + 1 from n where x < 600000)"
        " insert into t select x, (x * 7919) % 600011, hex(x * 31) from n; commit",
        "create index i on t(b)",
        "select sum(b) from t",
        "select count(*) from t where c like '%AB%'",
        "select sum(x.b) from t x join t y on x.b = y.a where y.b % 3 = 0",
        "update t set b = b + 1 where a % 5 = 0",
        "select count(distinct b) from t",
    };
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (sqlite3_exec(db, statements[i], sum_row, &sum, NULL)) {
            fprintf(stderr, "%s: %s\n", statements[i], sqlite3_errmsg(db));
            exit(1);
        }
    sqlite3_close(db);
    unlink(path);
    return sum;
}

int main(int count, char **arguments)
{
    static const struct { const char *name; uint64_t (*run)(void); } all[] = {
        {"sieve", sieve}, {"nbody", nbody}, {"sha256", sha256}, {"memcpy", copy}, {"matmul", matmul},
        {"mandelbrot", mandelbrot}, {"qsort", quicksort}, {"base64", base64}, {"scan", scan}, {"sqlite", sqlite},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (count == 2 && !strcmp(arguments[1], all[i].name)) {
            uint64_t started = now_ns(), check = all[i].run();
            printf("%s %llu %llu\n", all[i].name, (unsigned long long)(now_ns() - started), (unsigned long long)check);
            return 0;
        }
    return 2;
}
