// A libcuda.so.1 for machines without a GPU: cuDNN builds plans for a described device, and loads
// what it has compiled for it into a driver. This one takes everything and can run nothing.
namespace {
constexpr int kDone = 0, kNoDevice = 100;
int thing = 0;
}  // namespace

extern "C" {
#define TAKES(name)         \
    int name(void** made) { \
        *made = &thing;     \
        return kDone;       \
    }
#define DOES_NOTHING(name) \
    int name() { return kDone; }
#define REFUSES(name) \
    int name() { return kNoDevice; }

TAKES(cuLibraryLoadData)
TAKES(cuLibraryLoadFromFile)
TAKES(cuLibraryGetKernel)
TAKES(cuKernelGetFunction)
TAKES(cuModuleLoadData)
TAKES(cuModuleGetFunction)
DOES_NOTHING(cuLibraryUnload)
DOES_NOTHING(cuModuleUnload)
DOES_NOTHING(cuKernelSetAttribute)
DOES_NOTHING(cuFuncSetAttribute)
int cuKernelGetAttribute(int* value) {
    *value = 0;
    return kDone;
}
int cuDriverGetVersion(int* version) {
    *version = 13000;
    return kDone;
}
REFUSES(cuCtxGetCurrent)
REFUSES(cuCtxGetLimit)
REFUSES(cuCtxPopCurrent)
REFUSES(cuCtxPushCurrent)
REFUSES(cuDeviceGet)
REFUSES(cuDeviceGetCount)
REFUSES(cuGetErrorName)
REFUSES(cuGetErrorString)
REFUSES(cuLaunchCooperativeKernel)
REFUSES(cuLaunchKernel)
REFUSES(cuLaunchKernelEx)
REFUSES(cuLinkAddData)
REFUSES(cuLinkComplete)
REFUSES(cuLinkCreate)
REFUSES(cuLinkDestroy)
REFUSES(cuOccupancyMaxPotentialClusterSize)
REFUSES(cuStreamGetCtx)
REFUSES(cuTensorMapEncodeIm2col)
REFUSES(cuTensorMapEncodeTiled)
}
