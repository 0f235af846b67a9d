/* counter.c - a TCG plugin for qemu-aarch64: counts instructions by class between two marks, or writes them down.
 *
 *     qemu-aarch64 -plugin counter.so,out=FILE[,trace=on] program
 *
 * The program executes `hint #100` where a region begins and `hint #101` where it ends; on a CPU both do nothing. For each
 * region FILE receives `classes` 64-bit counts, or, with trace=on, a 32-bit number of instructions and their words.
 *
 * The declarations below are the part of QEMU's plugin interface, version 1, that is used here; Debian packages no header
 * for it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
typedef void (*translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*executed)(unsigned int cpu, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated call);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *instruction, executed call, int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *instruction, int op, void *counter,
                                                uint64_t amount);
enum { NO_REGISTERS = 0, ADD = 0 };

#define EXPORT __attribute__((visibility("default")))
EXPORT extern int qemu_plugin_version;
int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv);

/* The order in which regions are written; emulate.py has the same. */
enum { FMA, MULTIPLY, VECTOR_LOAD, VECTOR_STORE, LOAD, STORE, PREFETCH, SIMD, INTEGER, BRANCH, SVE, CLASSES };

static uint64_t counts[CLASSES], before[CLASSES];
static FILE *out;
static bool tracing, inside;
static uint32_t *words;
static size_t written, room;

static bool bits(uint32_t word, uint32_t mask, uint32_t value)
{
    return (word & mask) == value;
}

/* Scalar floating point counts with the vectors: it runs on the same pipes. */
static int class_of(uint32_t word)
{
    switch (word >> 25 & 15) {
    case 2:
        return SVE;
    case 8:
    case 9:
        return INTEGER;
    case 10:
    case 11:
        return bits(word, 0xff000000, 0xd5000000) ? INTEGER : BRANCH; /* hints, barriers, system registers */
    case 5:
    case 13:
        return INTEGER;
    case 7:
    case 15:
        if (bits(word, 0xbf20fc00, 0x0e20cc00)) {
            return FMA; /* fmla, fmls: vectors */
        }
        if (bits(word, 0xaf80b400, 0x0f801000)) {
            return FMA; /* by an element */
        }
        if (bits(word, 0xff000000, 0x1f000000)) {
            return FMA; /* fmadd and its like */
        }
        if (bits(word, 0xbf20e400, 0x2e00c400) || bits(word, 0xbf009400, 0x2f001000)) {
            return FMA; /* fcmla */
        }
        if (bits(word, 0xbfa0fc00, 0x2e20dc00) || bits(word, 0xaf80f400, 0x0f809000) ||
            bits(word, 0xff20fc00, 0x1e200800)) {
            return MULTIPLY;
        }
        return SIMD;
    default:
        break;
    }
    bool vector = word >> 26 & 1, load = word >> 22 & 1;
    uint32_t kind = word >> 27 & 7;
    if (kind == 3 && !(word >> 24 & 1)) { /* of a literal */
        load = true;
    } else if (kind == 7 && !vector) {
        uint32_t size = word >> 30, op = word >> 22 & 3;
        if (size == 3 && op == 2) {
            return PREFETCH;
        }
        load = op != 0 || bits(word, 0x01200c00, 0x00200000); /* atomic operations are loads */
    }
    return vector ? (load ? VECTOR_LOAD : VECTOR_STORE) : (load ? LOAD : STORE);
}

static void begin(unsigned int cpu, void *data)
{
    (void)cpu, (void)data;
    memcpy(before, counts, sizeof counts);
    inside = true;
    written = 0;
}

static void end(unsigned int cpu, void *data)
{
    (void)cpu, (void)data;
    inside = false;
    if (tracing) {
        uint32_t count = (uint32_t)written;
        fwrite(&count, sizeof count, 1, out);
        fwrite(words, sizeof *words, written, out);
    } else {
        uint64_t region[CLASSES];
        for (int i = 0; i < CLASSES; i++) {
            region[i] = counts[i] - before[i];
        }
        fwrite(region, sizeof region, 1, out);
    }
    fflush(out);
}

static void note(unsigned int cpu, void *data)
{
    (void)cpu;
    if (!inside) {
        return;
    }
    if (written == room) {
        room = room ? 2 * room : 1 << 16;
        words = realloc(words, room * sizeof *words);
        if (words == NULL) {
            abort();
        }
    }
    words[written++] = (uint32_t)(uintptr_t)data;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
        if (word == 0xd5032c9f) { /* hint #100 */
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, begin, NO_REGISTERS, NULL);
        } else if (word == 0xd5032cbf) { /* hint #101 */
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, end, NO_REGISTERS, NULL);
        } else if (tracing) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, note, NO_REGISTERS, (void *)(uintptr_t)word);
        } else {
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, &counts[class_of(word)], 1);
        }
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "wb");
        } else if (strcmp(argv[i], "trace=on") == 0) {
            tracing = true;
        } else {
            fprintf(stderr, "counter: unknown option %s; there are out=FILE and trace=on\n", argv[i]);
            return -1;
        }
    }
    if (out == NULL) {
        fprintf(stderr, "counter: give out=FILE, a file that can be written\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
