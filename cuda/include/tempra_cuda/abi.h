/* The border between a host and libtempra_cuda.so: plain C, one entry point, status codes.
 *
 * The library exports `tempra_cuda_open` and nothing else; it links nothing of the host. It never
 * throws across this border, never prints, never exits: a function that fails returns a status that
 * is not TEMPRA_CUDA_OK and leaves one line for `last_error`.
 *
 * Version rules. TEMPRA_CUDA_ABI_VERSION goes up by one with every change that an older host or
 * library would misread: a member removed, moved or given another meaning, a changed signature, any
 * change of tempra::KernelTable's existing members or of the argument structs it takes. What is
 * only appended at the end of a struct here does not change it: every struct starts with its own
 * `size` in bytes, filled by whoever made it, and neither side reads past the smaller of its own
 * size and the given one. Statuses and their numbers are never reused.
 */
#ifndef TEMPRA_CUDA_ABI_H
#define TEMPRA_CUDA_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TEMPRA_CUDA_ABI_VERSION 3
#define TEMPRA_CUDA_ENTRY_POINT "tempra_cuda_open"

typedef int32_t TempraCudaStatus;

/* 0 to 15 are the KernelStatus values of the kernel table. */
enum {
    TEMPRA_CUDA_OK = 0,
    TEMPRA_CUDA_UNSUPPORTED_DTYPE = 1,
    TEMPRA_CUDA_OUT_OF_MEMORY = 2,
    TEMPRA_CUDA_FAILED = 3,
    TEMPRA_CUDA_INDEX_OUT_OF_RANGE = 4,
    TEMPRA_CUDA_WRONG_ABI_VERSION = 16,
    TEMPRA_CUDA_NO_DRIVER = 17,
    TEMPRA_CUDA_DRIVER_TOO_OLD = 18,
    TEMPRA_CUDA_NO_DEVICE = 19,
    TEMPRA_CUDA_BAD_DEVICE_INDEX = 20,
    TEMPRA_CUDA_BAD_ARGUMENT = 21,
    TEMPRA_CUDA_NO_CODE_FOR_DEVICE = 22,
    TEMPRA_CUDA_STREAM_IS_CAPTURED = 23
};

/* What the host offers; any function may be null. They are called from the thread that called the
 * library, must not throw and must not call back into the library. */
typedef struct TempraCudaHostServices {
    int64_t size;
    void* user;
    /* Device memory was taken from the driver (bytes > 0) or given back (bytes < 0). */
    void (*memory_changed)(void* user, int32_t device, int64_t bytes, int64_t reserved_after);
    /* A call failed; the same line `last_error` gives. */
    void (*error)(void* user, TempraCudaStatus status, const char* message);
    /* A kernel was put on a stream; `name` lives as long as the library. */
    void (*kernel_launched)(void* user, const char* name, void* stream);
} TempraCudaHostServices;

typedef struct TempraCudaVersions {
    int64_t size;
    int32_t driver;  /* newest CUDA version the driver runs, 1000 * major + 10 * minor; 0: none */
    int32_t runtime; /* CUDA version the library was built with */
} TempraCudaVersions;

typedef struct TempraCudaDeviceInfo {
    int64_t size;
    char name[256];
    int32_t compute_major, compute_minor;
    int32_t multiprocessors;
    int32_t usable; /* 0: the library has no code for this device */
    int64_t total_bytes, free_bytes;
} TempraCudaDeviceInfo;

typedef struct TempraCudaMemory {
    int64_t size;
    int64_t bytes_requested; /* asked for by holders, now */
    int64_t bytes_in_use;    /* the same, rounded up to size classes, and what graphs work in */
    int64_t peak_bytes_in_use;
    int64_t bytes_reserved; /* taken from the driver: in use, cached or pending */
    int64_t peak_bytes_reserved;
    int64_t bytes_pending; /* released, but another stream may still read them */
    int64_t largest_free_block;
    int64_t allocations; /* requests served since the start */
    int64_t driver_allocations;
    double fragmentation; /* share of bytes_reserved that no holder asked for */
} TempraCudaMemory;

/* Devices are numbered from 0. Streams are cudaStream_t; the null (legacy default) stream is
 * refused. Functions that take no device work on the calling thread's current one. */
typedef struct TempraCudaLibrary {
    int64_t size;
    int32_t abi_version;
    int32_t reserved;
    const char* version;       /* of the library */
    const char* architectures; /* it has code for, as given to the build: "80;90a" */
    /* const tempra::KernelTable*: kernels not written yet are null. Its `size` says how long. */
    const void* kernels;

    /* The calling thread's last failure in one line; "" when there was none. */
    const char* (*last_error)(void);

    TempraCudaStatus (*versions)(TempraCudaVersions* out);
    /* Fails with a reason when there is no driver, when it is too old, when it sees no device. */
    TempraCudaStatus (*device_count)(int32_t* out);
    TempraCudaStatus (*device_info)(int32_t device, TempraCudaDeviceInfo* out);
    TempraCudaStatus (*set_device)(int32_t device);

    TempraCudaStatus (*stream_create)(void** stream);
    TempraCudaStatus (*stream_destroy)(void* stream);
    /* Waits, and reports what kernels found out on the device: an index out of range. */
    TempraCudaStatus (*stream_synchronize)(void* stream);

    /* Stream-ordered: memory released is handed out again at once on the stream it came from.
     * `record_use` tells that another stream works on the block too. */
    TempraCudaStatus (*allocate)(int64_t bytes, void* stream, void** out);
    TempraCudaStatus (*release)(void* block);
    TempraCudaStatus (*record_use)(void* block, void* stream);
    TempraCudaStatus (*memory)(TempraCudaMemory* out);
    TempraCudaStatus (*reset_peak_memory)(void);
    TempraCudaStatus (*release_cached_memory)(void);

    /* Page-locked host memory, and copies that return before they are done (with pageable host
     * memory the driver may wait). */
    TempraCudaStatus (*allocate_pinned)(int64_t bytes, void** out);
    TempraCudaStatus (*release_pinned)(void* block);
    TempraCudaStatus (*copy_to_device)(void* to, const void* from, int64_t bytes, void* stream);
    TempraCudaStatus (*copy_to_host)(void* to, const void* from, int64_t bytes, void* stream);
    TempraCudaStatus (*copy_on_device)(void* to, const void* from, int64_t bytes, void* stream);

    /* An event is a point on a stream: behind what was put there when it was recorded. A stream
     * waits for one without the host; here a stream may also be one of the driver's own (1: legacy
     * default, 2: default of the thread) or another library's. */
    TempraCudaStatus (*event_create)(void** event);
    TempraCudaStatus (*event_destroy)(void* event);
    TempraCudaStatus (*event_record)(void* event, void* stream);
    TempraCudaStatus (*event_is_complete)(void* event, int32_t* complete);
    TempraCudaStatus (*event_synchronize)(void* event);
    TempraCudaStatus (*stream_wait)(void* stream, void* event);

    /* Graphs: what is put on the stream between begin and end is recorded and not run, and runs
     * with every launch, with the same arguments and on the same memory: what varies lies in device
     * memory. Nothing may wait for a captured stream, nor it for an event, and nothing is copied
     * between it and the host; such a call fails and the capture goes on. Blocks allocated or
     * released on the stream meanwhile are the graph's until it is destroyed. Kernels should have
     * run once before: what they set up is not a part of the graph. `capture_end` with a null
     * `graph` discards what was recorded. `graph_destroy` waits for the launches. */
    TempraCudaStatus (*capture_begin)(void* stream);
    TempraCudaStatus (*capture_end)(void* stream, void** graph);
    TempraCudaStatus (*graph_launch)(void* graph, void* stream);
    TempraCudaStatus (*graph_destroy)(void* graph);

    /* Attention by cuDNN where it is there and takes the shapes (1; 0: by our own kernels alone),
     * and its gradients with sums in one order in every run (1; 0: in any). Both start as 1, the
     * first as TEMPRA_CUDA_ATTENTION says where that is set; below 0: left as it is. */
    TempraCudaStatus (*attention_choose)(int32_t cudnn, int32_t deterministic);
    /* One line on what serves attention and why; lives until the thread's next call of it. */
    const char* (*attention_kernels)(void);
} TempraCudaLibrary;

/* Checks `abi_version` and the services, and gives the library's functions, which live as long as
 * the library is loaded. Works without a driver. When it fails, `message` (if not null) receives
 * one line, cut to `message_bytes` with its terminating zero. Later calls replace the services. */
typedef TempraCudaStatus (*TempraCudaOpen)(int32_t abi_version,
                                           const TempraCudaHostServices* services,
                                           const TempraCudaLibrary** library, char* message,
                                           int64_t message_bytes);

#ifdef TEMPRA_CUDA_BUILDING_LIBRARY
__attribute__((visibility("default"))) TempraCudaStatus tempra_cuda_open(
    int32_t abi_version, const TempraCudaHostServices* services, const TempraCudaLibrary** library,
    char* message, int64_t message_bytes);
#endif

#ifdef __cplusplus
}
#endif

#endif
