// cudnn_standin.cpp - cuDNN on the emulated GPU (cudnn.h): descriptors that are checked as cuDNN checks them, and more strictly, and convolutions by plain loops.
//
// Attributes must have the type and the number that cuDNN wants, be set before the descriptor is finalized and refer to finalized ones; what is wrong inside is
// refused by finalize. The heuristics suggest, in this order: an engine whose bits differ from run to run, one that wants more scratch than anybody allows, one
// on tensor cores (TF32 in float32), and one that is sound. The first two end the program when they run; the third rounds float32 operands as TF32 does.
#include "cudnn.h"
#include <array>
#include <string>
#include "cuda_emu.h"
#include "cxnet/op.h"

namespace {
typedef std::array<int64_t, 4> Dims;

// A convolution, with all that its plan's text holds. Tensors x, w, y: dims n, c, h, w.
struct Conv {
    int64_t kind, type, engine, handle;                 // kind: 0 fprop, 1 dgrad, 2 wgrad; handle: 1 when made with one
    Dims dims[3], strides[3];
    int64_t uid[3], alignment[3], types[3], pre[2], post[2], stride[2];
};
enum { SHAKY, GREEDY, TENSOR_CORE, SOUND, ENGINES };
enum { NUMBERS = sizeof(Conv) / sizeof(int64_t) };

struct Descriptor;
typedef std::shared_ptr<Descriptor> Ref;
struct Value { cudnnBackendAttributeType_t type; std::vector<int64_t> words; std::vector<Ref> refs; std::string text; };
struct Descriptor {
    cudnnBackendDescriptorType_t type;
    bool final;
    std::map<int, Value> value;
    Conv conv;                                          // of operations, graphs, engines, plans
};

// ---- what an attribute is ---------------------------------------------------------------------------------------------

enum { ANY = 1 << 20 };
struct Rule { int of, name, type, least, most; bool needed; int refers; };
#define REF CUDNN_TYPE_BACKEND_DESCRIPTOR
#define TENSOR CUDNN_BACKEND_TENSOR_DESCRIPTOR
#define WINDOW CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR
#define GRAPH CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR
#define FORWARD CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR
#define DATA CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
#define FILTER CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR
#define HEURISTICS CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR
#define PLAN CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR
#define PACK CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR
#define PROPERTIES CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR
const Rule rules[] = {
    { TENSOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1, true, 0 },
    { TENSOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, 4, true, 0 },
    { TENSOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, 4, true, 0 },
    { TENSOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, 1, true, 0 },
    { TENSOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, 1, true, 0 },
    { WINDOW, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1, true, 0 },
    { WINDOW, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, 1, true, 0 },
    { WINDOW, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, 1, true, 0 },
    { WINDOW, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, 2, true, 0 },
    { WINDOW, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, 2, true, 0 },
    { WINDOW, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, 2, true, 0 },
    { WINDOW, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, 2, true, 0 },
    { FORWARD, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, REF, 1, 1, true, WINDOW },
    { FORWARD, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, REF, 1, 1, true, TENSOR },
    { FORWARD, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, REF, 1, 1, true, TENSOR },
    { FORWARD, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, REF, 1, 1, true, TENSOR },
    { FORWARD, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, 1, true, 0 },
    { FORWARD, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, 1, true, 0 },
    { DATA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, REF, 1, 1, true, WINDOW },
    { DATA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, REF, 1, 1, true, TENSOR },
    { DATA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, REF, 1, 1, true, TENSOR },
    { DATA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, REF, 1, 1, true, TENSOR },
    { DATA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1, 1, true, 0 },
    { DATA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 1, 1, true, 0 },
    { FILTER, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, REF, 1, 1, true, WINDOW },
    { FILTER, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, REF, 1, 1, true, TENSOR },
    { FILTER, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, REF, 1, 1, true, TENSOR },
    { FILTER, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, REF, 1, 1, true, TENSOR },
    { FILTER, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_TYPE_FLOAT, 1, 1, true, 0 },
    { FILTER, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, CUDNN_TYPE_FLOAT, 1, 1, true, 0 },
    { GRAPH, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, 1, false, 0 },
    { GRAPH, CUDNN_ATTR_OPERATIONGRAPH_OPS, REF, 1, 1, true, ANY },
    { HEURISTICS, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, REF, 1, 1, true, GRAPH },
    { HEURISTICS, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, 1, true, 0 },
    { HEURISTICS, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, REF, 1, 1, false, PROPERTIES },
    { PLAN, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, 1, false, 0 },
    { PLAN, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, REF, 1, 1, false, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR },
    { PLAN, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 1, ANY, false, 0 },
    { PLAN, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, REF, 1, 1, false, PROPERTIES },
    { PACK, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 1, 16, true, 0 },
    { PACK, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 1, 16, true, 0 },
    { PACK, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, 1, false, 0 },
    { PROPERTIES, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 1, ANY, true, 0 },
};

size_t size_of(int type) { return type == CUDNN_TYPE_CHAR ? 1 : type == CUDNN_TYPE_INT64 || type == CUDNN_TYPE_VOID_PTR || type == CUDNN_TYPE_HANDLE ? 8 : 4; }

const Value *find(const Descriptor &d, int name)
{
    const auto at = d.value.find(name);
    return at == d.value.end() ? nullptr : &at->second;
}
int64_t word(const Descriptor &d, int name, size_t i = 0) { return d.value.at(name).words[i]; }
const Descriptor &ref(const Descriptor &d, int name) { return *d.value.at(name).refs[0]; }

// ---- what finalize looks at ---------------------------------------------------------------------------------------------

cudnnStatus_t check_tensor(const Descriptor &d)
{
    const std::vector<int64_t> &dims = d.value.at(CUDNN_ATTR_TENSOR_DIMENSIONS).words, &strides = d.value.at(CUDNN_ATTR_TENSOR_STRIDES).words;
    const int64_t type = word(d, CUDNN_ATTR_TENSOR_DATA_TYPE), alignment = word(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    int64_t span = 1;
    for (int i = 0; i < 4; i++)
        if (dims[i] < 1 || strides[i] < 1)
            return CUDNN_STATUS_BAD_PARAM;
    for (int i : { 1, 3, 2, 0 }) {                      // from channels outwards, none reaches into the next
        if (strides[i] < span)
            return CUDNN_STATUS_BAD_PARAM;
        span = strides[i] * dims[i];
    }
    if (strides[1] != 1 || (type == CUDNN_DATA_BFLOAT16 && dims[1] % 8 != 0))
        return CUDNN_STATUS_NOT_SUPPORTED;
    return type != CUDNN_DATA_FLOAT && type != CUDNN_DATA_BFLOAT16 ? CUDNN_STATUS_NOT_SUPPORTED
         : alignment < 1 || (alignment & (alignment - 1)) ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_window(const Descriptor &d)
{
    for (int i = 0; i < 2; i++)
        if (word(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i) < 0 || word(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i) < 0 ||
            word(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i) < 1 || word(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, i) != 1)
            return CUDNN_STATUS_BAD_PARAM;
    return word(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) != 2 || word(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE) != CUDNN_DATA_FLOAT ||
           word(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t read_operation(Descriptor &d)
{
    static const int names[3][6] = {
        { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
    };
    Conv &g = d.conv;
    g.kind = d.type == FORWARD ? 0 : d.type == DATA ? 1 : 2;
    const int *name = names[g.kind];
    for (int t = 0; t < 3; t++) {
        const Descriptor &tensor = ref(d, name[t]);
        std::copy_n(tensor.value.at(CUDNN_ATTR_TENSOR_DIMENSIONS).words.begin(), 4, g.dims[t].begin());
        std::copy_n(tensor.value.at(CUDNN_ATTR_TENSOR_STRIDES).words.begin(), 4, g.strides[t].begin());
        g.uid[t] = word(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID);
        g.alignment[t] = word(tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
        g.types[t] = word(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE);
    }
    g.type = g.types[0];
    for (int i = 0; i < 2; i++) {
        const Descriptor &window = ref(d, name[3]);
        g.pre[i] = word(window, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
        g.post[i] = word(window, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i);
        g.stride[i] = word(window, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
        if (g.dims[2][2 + i] != (g.dims[0][2 + i] + g.pre[i] + g.post[i] - g.dims[1][2 + i]) / g.stride[i] + 1)
            return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    }
    float alpha, beta;
    memcpy(&alpha, &d.value[name[4]].words[0], sizeof alpha);
    memcpy(&beta, &d.value[name[5]].words[0], sizeof beta);
    if (g.uid[0] == g.uid[1] || g.uid[0] == g.uid[2] || g.uid[1] == g.uid[2])
        return CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES;
    if (g.dims[0][0] != g.dims[2][0] || g.dims[0][1] != g.dims[1][1] || g.dims[2][1] != g.dims[1][0])
        return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    return g.types[1] != g.type || g.types[2] != g.type || alpha != 1 || beta != 0 ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_properties(const Descriptor &d)
{
    static const char *const keys[] = { "deviceVer", "driverVer", "cudaDeviceId", "pciDeviceId", "multiProcessorCount", "warpSize", "maxThreadsPerBlock",
        "maxThreadsPerSM", "maxCtasPerSM", "regsPerBlock", "maxRegistersPerSM", "maxSharedMemoryPerBlock", "maxSharedMemoryPerBlockOptin",
        "reservedSharedMemoryPerBlock", "totalGlobalMem", "l2CacheSize", "smClockRateKHz", "memClockRateKHz", "maxBlockSize", "maxGridSize",
        "supportCoopLaunch", "isTccDriver", "deviceName" };
    const std::string &text = d.value.at(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION).text;
    for (const char *key : keys)
        if (text.find("\"" + std::string(key) + "\"") == std::string::npos)
            return CUDNN_STATUS_BAD_PARAM;
    return CUDNN_STATUS_SUCCESS;
}

std::string text_of(const Conv &g)
{
    std::string s = "{\"standin\": [";
    int64_t v[NUMBERS];
    memcpy(v, &g, sizeof v);
    for (int i = 0; i < NUMBERS; i++)
        s += (i ? ", " : "") + std::to_string(v[i]);
    return s + "]}";
}

bool read_text(const std::string &s, Conv *g)
{
    int64_t v[NUMBERS];
    const char *at = s.c_str(), *const head = "{\"standin\": [";
    if (s.compare(0, strlen(head), head) != 0)
        return false;
    at += strlen(head);
    for (int i = 0; i < NUMBERS; i++) {
        char *end;
        v[i] = strtoll(at, &end, 10);
        if (end == at)
            return false;
        at = end + (*end == ',');
    }
    memcpy(g, v, sizeof v);
    return strcmp(at, "]}") == 0 && g->engine >= 0 && g->engine < ENGINES;
}

cudnnStatus_t read_plan(Descriptor &d)
{
    const bool handle = find(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE), text = find(d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    const bool config = find(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (config == text)
        return CUDNN_STATUS_BAD_PARAM;
    if (config)
        d.conv = ref(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).conv;
    else if (!read_text(d.value[CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION].text, &d.conv) || handle == !!find(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP))
        return CUDNN_STATUS_BAD_PARAM;
    if (config && handle != !!d.conv.handle)
        return CUDNN_STATUS_BAD_PARAM;
    d.conv.handle = handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_pack(const Descriptor &d)
{
    const std::vector<int64_t> &uid = d.value.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).words, &data = d.value.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).words;
    return uid.size() != data.size() ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize(Descriptor &d)
{
    for (const Rule &r : rules)
        if (r.of == (int)d.type && r.needed && !find(d, r.name))
            return CUDNN_STATUS_BAD_PARAM;
    switch (d.type) {
    case TENSOR: return check_tensor(d);
    case WINDOW: return check_window(d);
    case FORWARD: case DATA: case FILTER: return read_operation(d);
    case GRAPH:
        d.conv = ref(d, CUDNN_ATTR_OPERATIONGRAPH_OPS).conv;
        d.conv.handle = find(d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE) != nullptr;
        return CUDNN_STATUS_SUCCESS;
    case HEURISTICS:
        d.conv = ref(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).conv;
        return !!d.conv.handle == !!find(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP) ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
    case PLAN: return read_plan(d);
    case PACK: return check_pack(d);
    case PROPERTIES: return check_properties(d);
    default: return CUDNN_STATUS_BAD_PARAM;                             // engines and configs are filled by cuDNN
    }
}

// ---- what can be asked --------------------------------------------------------------------------------------------------

int64_t workspace_of(const Conv &g)
{
    return g.engine == GREEDY ? (int64_t)1 << 40 : 4096 + 4 * g.dims[1][0] * g.dims[1][1] * (g.kind == 2 ? g.dims[1][2] * g.dims[1][3] : 0);
}

// Into descriptors of the caller's.
cudnnStatus_t get_results(const Descriptor &d, int64_t wanted, int64_t *count, void *elements)
{
    *count = ENGINES;
    for (int i = 0; i < ENGINES && i < wanted; i++) {
        Descriptor &config = **((Ref **)elements)[i];
        if (config.type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR || config.final)
            return CUDNN_STATUS_BAD_PARAM;
        config.conv = d.conv;
        config.conv.engine = i;
        config.final = true;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get_engine(const Descriptor &d, int64_t wanted, int64_t *count, void *elements)
{
    Descriptor &engine = **((Ref **)elements)[0];
    if (wanted != 1 || engine.type != CUDNN_BACKEND_ENGINE_DESCRIPTOR)
        return CUDNN_STATUS_BAD_PARAM;
    engine.conv = d.conv;
    engine.final = true;
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get_notes(const Descriptor &d, int64_t wanted, int64_t *count, void *elements)
{
    const bool cores = d.conv.engine == TENSOR_CORE || d.conv.type == CUDNN_DATA_BFLOAT16;
    std::vector<cudnnBackendNumericalNote_t> notes;
    if (cores)
        notes.push_back(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    if (d.conv.engine == SHAKY)
        notes.push_back(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    *count = (int64_t)notes.size();
    std::copy_n(notes.begin(), std::min(*count, wanted), (cudnnBackendNumericalNote_t *)elements);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get_text(const Descriptor &d, int64_t wanted, int64_t *count, void *elements)
{
    const std::string text = text_of(d.conv);
    *count = (int64_t)text.size();
    if (wanted)
        memcpy(elements, text.data(), (size_t)std::min(*count, wanted));
    return CUDNN_STATUS_SUCCESS;
}

// ---- the convolution ----------------------------------------------------------------------------------------------------

struct Job { Conv g; char *p[3]; };

float rounded_to_tf32(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    u = (u + 0x1000) & 0xffffe000u;
    memcpy(&v, &u, sizeof v);
    return v;
}

int64_t offset(const Conv &g, int t, int64_t n, int64_t y, int64_t x) { return n * g.strides[t][0] + y * g.strides[t][2] + x * g.strides[t][3]; }

double load(const Job &j, int t, int64_t at)
{
    if (j.g.type == CUDNN_DATA_BFLOAT16)
        return (double)cx_from_bf16(((const uint16_t *)j.p[t])[at]);
    const float v = ((const float *)j.p[t])[at];
    return (double)(j.g.engine == TENSOR_CORE ? rounded_to_tf32(v) : v);
}

void store(const Job &j, int t, int64_t at, double v)
{
    if (j.g.type == CUDNN_DATA_BFLOAT16)
        ((uint16_t *)j.p[t])[at] = cx_to_bf16((float)v);
    else
        ((float *)j.p[t])[at] = (float)v;
}

// The place of x that tap (ky, kx) of y's place meets; false outside.
bool meets(const Conv &g, int64_t y, int64_t x, int64_t ky, int64_t kx, int64_t *iy, int64_t *ix)
{
    *iy = y * g.stride[0] + ky - g.pre[0];
    *ix = x * g.stride[1] + kx - g.pre[1];
    return *iy >= 0 && *iy < g.dims[0][2] && *ix >= 0 && *ix < g.dims[0][3];
}

// One thread a block: a pixel of y, of x, or a tap of an output.
__global__ void standin_fprop(Job j)
{
    const Conv &g = j.g;
    const int64_t n = blockIdx.x / (g.dims[2][2] * g.dims[2][3]), y = blockIdx.x / g.dims[2][3] % g.dims[2][2], x = blockIdx.x % g.dims[2][3];
    for (int64_t o = 0; o < g.dims[2][1]; o++) {
        double sum = 0;
        for (int64_t ky = 0; ky < g.dims[1][2]; ky++)
            for (int64_t kx = 0; kx < g.dims[1][3]; kx++) {
                int64_t iy, ix;
                if (!meets(g, y, x, ky, kx, &iy, &ix))
                    continue;
                const int64_t from = offset(g, 0, n, iy, ix), weight = offset(g, 1, o, ky, kx);
                for (int64_t c = 0; c < g.dims[1][1]; c++)
                    sum += load(j, 0, from + c) * load(j, 1, weight + c);
            }
        store(j, 2, offset(g, 2, n, y, x) + o, sum);
    }
}

__global__ void standin_dgrad(Job j)
{
    const Conv &g = j.g;
    const int64_t n = blockIdx.x / (g.dims[0][2] * g.dims[0][3]), iy = blockIdx.x / g.dims[0][3] % g.dims[0][2], ix = blockIdx.x % g.dims[0][3];
    std::vector<double> sum((size_t)g.dims[0][1]);
    for (int64_t ky = 0; ky < g.dims[1][2]; ky++)
        for (int64_t kx = 0; kx < g.dims[1][3]; kx++) {
            const int64_t y = iy + g.pre[0] - ky, x = ix + g.pre[1] - kx;
            if (y < 0 || x < 0 || y % g.stride[0] || x % g.stride[1] || y / g.stride[0] >= g.dims[2][2] || x / g.stride[1] >= g.dims[2][3])
                continue;
            const int64_t from = offset(g, 2, n, y / g.stride[0], x / g.stride[1]);
            for (int64_t o = 0; o < g.dims[2][1]; o++) {
                const double dy = load(j, 2, from + o);
                const int64_t weight = offset(g, 1, o, ky, kx);
                for (int64_t c = 0; c < g.dims[0][1]; c++)
                    sum[(size_t)c] += dy * load(j, 1, weight + c);
            }
        }
    for (int64_t c = 0; c < g.dims[0][1]; c++)
        store(j, 0, offset(g, 0, n, iy, ix) + c, sum[(size_t)c]);
}

__global__ void standin_wgrad(Job j)
{
    const Conv &g = j.g;
    const int64_t o = blockIdx.x / (g.dims[1][2] * g.dims[1][3]), ky = blockIdx.x / g.dims[1][3] % g.dims[1][2], kx = blockIdx.x % g.dims[1][3];
    std::vector<double> sum((size_t)g.dims[1][1]);
    for (int64_t n = 0; n < g.dims[2][0]; n++)
        for (int64_t y = 0; y < g.dims[2][2]; y++)
            for (int64_t x = 0; x < g.dims[2][3]; x++) {
                int64_t iy, ix;
                if (!meets(g, y, x, ky, kx, &iy, &ix))
                    continue;
                const double dy = load(j, 2, offset(g, 2, n, y, x) + o);
                const int64_t from = offset(g, 0, n, iy, ix);
                for (int64_t c = 0; c < g.dims[1][1]; c++)
                    sum[(size_t)c] += dy * load(j, 0, from + c);
            }
    for (int64_t c = 0; c < g.dims[1][1]; c++)
        store(j, 1, offset(g, 1, o, ky, kx) + c, sum[(size_t)c]);
}

// What was asked for is used.
__global__ void standin_scratch(char *p, int64_t bytes) { memset(p, 0xff, (size_t)bytes); }

cudnnStatus_t run(const Job &j, char *workspace, cudaStream_t stream)
{
    const Conv &g = j.g;
    if (g.engine == SHAKY || g.engine == GREEDY) {
        fprintf(stderr, "emu: cudnn: engine %d was not to be taken\n", (int)g.engine);
        exit(3);
    }
    if (!workspace)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    LAUNCH(standin_scratch, 1, 1, stream, workspace, workspace_of(g));
    if (g.kind == 0)
        LAUNCH(standin_fprop, (unsigned)(g.dims[2][0] * g.dims[2][2] * g.dims[2][3]), 1, stream, j);
    else if (g.kind == 1)
        LAUNCH(standin_dgrad, (unsigned)(g.dims[0][0] * g.dims[0][2] * g.dims[0][3]), 1, stream, j);
    else
        LAUNCH(standin_wgrad, (unsigned)(g.dims[1][0] * g.dims[1][2] * g.dims[1][3]), 1, stream, j);
    return CUDNN_STATUS_SUCCESS;
}
}

struct cudnnContext { cudaStream_t stream; };

extern "C" {

size_t cudnnGetVersion(void) { return 91900; }

const char *cudnnGetErrorString(cudnnStatus_t e)
{
    return e == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : e >= CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_BAD_PARAM";
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = new cudnnContext();
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d)
{
    *d = new Ref(new Descriptor{ type, false, {}, {} });
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    delete (Ref *)d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                                       const void *elements)
{
    if (!descriptor || !elements)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    Descriptor &d = **(Ref *)descriptor;
    const Rule *rule = nullptr;
    for (const Rule &r : rules)
        if (r.of == (int)d.type && r.name == (int)name)
            rule = &r;
    if (!rule || d.final)
        return CUDNN_STATUS_BAD_PARAM;
    if (rule->type != (int)type)
        return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
    if (count < rule->least || count > rule->most)
        return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
    Value v = { type, {}, {}, {} };
    if (type == CUDNN_TYPE_CHAR)
        v.text.assign((const char *)elements, (size_t)count);
    for (int64_t i = 0; type != CUDNN_TYPE_CHAR && i < count; i++) {
        int64_t w = 0;
        memcpy(&w, (const char *)elements + (size_t)i * (type == REF ? 8 : size_of(type)), type == REF ? 8 : size_of(type));
        if (type == REF && !w)
            return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
        if (type == REF) {
            const Ref &to = *(Ref *)w;
            if (!to->final)
                return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
            if (rule->refers != ANY ? (int)to->type != rule->refers : to->type != FORWARD && to->type != DATA && to->type != FILTER)
                return CUDNN_STATUS_BAD_PARAM;
            v.refs.push_back(to);
        } else {
            v.words.push_back(w);
        }
    }
    d.value[name] = v;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t wanted,
                                       int64_t *count, void *elements)
{
    int64_t unused;
    count = count ? count : &unused;
    if (!descriptor || (wanted > 0 && !elements))
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    const Descriptor &d = **(Ref *)descriptor;
    if (!d.final)
        return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (d.type == HEURISTICS && name == CUDNN_ATTR_ENGINEHEUR_RESULTS && type == REF)
        return get_results(d, wanted, count, elements);
    if (d.type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR && name == CUDNN_ATTR_ENGINECFG_ENGINE && type == REF)
        return get_engine(d, wanted, count, elements);
    if (d.type == CUDNN_BACKEND_ENGINE_DESCRIPTOR && name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE && type == CUDNN_TYPE_NUMERICAL_NOTE)
        return get_notes(d, wanted, count, elements);
    if (d.type == PLAN && name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION && type == CUDNN_TYPE_CHAR)
        return get_text(d, wanted, count, elements);
    if (d.type != PLAN || name != CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE || type != CUDNN_TYPE_INT64 || wanted != 1)
        return CUDNN_STATUS_BAD_PARAM;
    *count = 1;
    *(int64_t *)elements = workspace_of(d.conv);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    if (!descriptor)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    Descriptor &d = **(Ref *)descriptor;
    const cudnnStatus_t e = d.final ? CUDNN_STATUS_BAD_PARAM : finalize(d);
    d.final = d.final || e == CUDNN_STATUS_SUCCESS;
    return e;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan_, cudnnBackendDescriptor_t pack_)
{
    if (!handle || !plan_ || !pack_)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    const Descriptor &plan = **(Ref *)plan_, &pack = **(Ref *)pack_;
    if (plan.type != PLAN || pack.type != PACK || !plan.final || !pack.final || !plan.conv.handle)
        return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    Job j = { plan.conv, { nullptr, nullptr, nullptr } };
    const std::vector<int64_t> &uid = pack.value.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).words;
    for (int t = 0; t < 3; t++) {
        for (size_t i = 0; i < uid.size(); i++)
            if (uid[i] == j.g.uid[t])
                j.p[t] = (char *)pack.value.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).words[i];
        if (!j.p[t])
            return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
        if ((uintptr_t)j.p[t] % (uintptr_t)j.g.alignment[t])
            return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    }
    const Value *workspace = find(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    return run(j, workspace ? (char *)workspace->words[0] : nullptr, handle->stream);
}
}
