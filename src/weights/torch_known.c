/* torch_known.c - the table of what a pickle of PyTorch may name; anything else is refused by its name. Depends on torch.h, read.h. */
#include "torch.h"
#include "read.h"

enum { UNTYPED = CX_TORCH_UNTYPED, F32, F64, F16, BF16, I64, I32, I16, I8, U8, BOOL, U16, U32, U64, C32, C64, C128, Q8, Q32, FLOAT8 };

const cx_torch_number cx_torch_numbers[] = {
    [UNTYPED] = { "untyped", 1, -1 }, [F32] = { "float32", 4, CX_RAW_F32 }, [F64] = { "float64", 8, CX_RAW_F64 }, [F16] = { "float16", 2, CX_RAW_F16 },
    [BF16] = { "bfloat16", 2, CX_RAW_BF16 }, [I64] = { "int64", 8, CX_RAW_I64 }, [I32] = { "int32", 4, CX_RAW_I32 }, [I16] = { "int16", 2, CX_RAW_I16 },
    [I8] = { "int8", 1, CX_RAW_I8 }, [U8] = { "uint8", 1, CX_RAW_U8 }, [BOOL] = { "bool", 1, CX_RAW_BOOL }, [U16] = { "uint16", 2, CX_RAW_U16 },
    [U32] = { "uint32", 4, CX_RAW_U32 }, [U64] = { "uint64", 8, -1 }, [C32] = { "complex32", 4, -1 }, [C64] = { "complex64", 8, -1 },
    [C128] = { "complex128", 16, -1 }, [Q8] = { "quantised", 1, -1 }, [Q32] = { "quantised", 4, -1 }, [FLOAT8] = { "float8", 1, -1 },
};

#define MAKES(module, name, role) { module, name, CX_PK_CALLED, role, NULL }
#define STORAGE_IN(module, name, number) { module, name "Storage", CX_PK_NAMED, CX_TORCH_STORAGE | (number) << 8, NULL }
#define STORAGE(name, number) STORAGE_IN("torch", name, number), STORAGE_IN("torch.cuda", name, number)
#define DTYPE(name, number) { "torch", name, CX_PK_NAMED, CX_TORCH_DTYPE | (number) << 8, NULL }
#define OTHER(module, name, may) { module, name, may, CX_TORCH_OTHER, NULL }
#define REFUSED(module, name, why) { module, name, CX_PK_REFUSED, CX_TORCH_OTHER, why }

static const char quantised[] = "a quantised tensor, which is not read; save the network before it is quantised";
static const char sparse[] = "a sparse tensor, which is not read; save x.to_dense()";
static const char bare[] = "a tensor without numbers (device meta), so there is nothing to read; save the network once its weights are loaded";
static const char subclass[] = "a tensor of a class of its own; save plain ones: {k: v.data.clone() for k, v in model.state_dict().items()}";

const cx_pk_global cx_torch_known[] = {
    MAKES("torch._utils", "_rebuild_tensor", CX_TORCH_V1), MAKES("torch._utils", "_rebuild_tensor_v2", CX_TORCH_V2),
    MAKES("torch._utils", "_rebuild_tensor_v3", CX_TORCH_V3), MAKES("torch._utils", "_rebuild_parameter", CX_TORCH_PARAMETER),
    MAKES("torch._utils", "_rebuild_parameter_with_state", CX_TORCH_PARAMETER), MAKES("torch.nn.parameter", "Parameter", CX_TORCH_PARAMETER),
    MAKES("torch", "Size", CX_TORCH_SIZE),
    OTHER("collections", "OrderedDict", CX_PK_MAPPING),
    STORAGE("Float", F32), STORAGE("Double", F64), STORAGE("Half", F16), STORAGE("BFloat16", BF16), STORAGE("Long", I64), STORAGE("Int", I32),
    STORAGE("Short", I16), STORAGE("Char", I8), STORAGE("Byte", U8), STORAGE("Bool", BOOL), STORAGE("ComplexFloat", C64), STORAGE("ComplexDouble", C128),
    STORAGE("QInt8", Q8), STORAGE("QUInt8", Q8), STORAGE("QInt32", Q32), STORAGE("QUInt4x2", Q8), STORAGE("QUInt2x4", Q8),
    STORAGE_IN("torch.storage", "Untyped", UNTYPED), STORAGE_IN("torch", "Untyped", UNTYPED), OTHER("torch.storage", "TypedStorage", CX_PK_NAMED),
    DTYPE("float32", F32), DTYPE("float64", F64), DTYPE("float16", F16), DTYPE("bfloat16", BF16), DTYPE("int64", I64), DTYPE("int32", I32),
    DTYPE("int16", I16), DTYPE("int8", I8), DTYPE("uint8", U8), DTYPE("bool", BOOL), DTYPE("uint16", U16), DTYPE("uint32", U32), DTYPE("uint64", U64),
    DTYPE("complex32", C32), DTYPE("complex64", C64), DTYPE("complex128", C128), DTYPE("float8_e4m3fn", FLOAT8), DTYPE("float8_e5m2", FLOAT8),
    DTYPE("float8_e4m3fnuz", FLOAT8), DTYPE("float8_e5m2fnuz", FLOAT8),
    /* what checkpoints hold beside their tensors: scalars and arrays of numpy, milestones of a schedule, devices */
    OTHER("torch", "device", CX_PK_CALLED), OTHER("torch.serialization", "_get_layout", CX_PK_CALLED), OTHER("_codecs", "encode", CX_PK_CALLED),
    OTHER("numpy", "dtype", CX_PK_STATED), OTHER("numpy", "ndarray", CX_PK_NAMED),
    OTHER("numpy.core.multiarray", "scalar", CX_PK_CALLED), OTHER("numpy._core.multiarray", "scalar", CX_PK_CALLED),
    OTHER("numpy.core.multiarray", "_reconstruct", CX_PK_STATED), OTHER("numpy._core.multiarray", "_reconstruct", CX_PK_STATED),
    OTHER("collections", "Counter", CX_PK_CALLED), OTHER("builtins", "set", CX_PK_CALLED), OTHER("__builtin__", "set", CX_PK_CALLED),
    OTHER("builtins", "complex", CX_PK_CALLED), OTHER("__builtin__", "complex", CX_PK_CALLED), OTHER("builtins", "bytearray", CX_PK_CALLED),
    OTHER("__builtin__", "bytearray", CX_PK_CALLED),
    REFUSED("torch._utils", "_rebuild_qtensor", quantised), REFUSED("torch._utils", "_rebuild_sparse_tensor", sparse),
    REFUSED("torch._utils", "_rebuild_sparse_csr_tensor", sparse), REFUSED("torch._utils", "_rebuild_meta_tensor_no_storage", bare),
    REFUSED("torch", "qint8", quantised), REFUSED("torch", "quint8", quantised), REFUSED("torch", "qint32", quantised),
    REFUSED("torch._utils", "_rebuild_nested_tensor", "a nested tensor, which is not read"),
    REFUSED("torch._utils", "_rebuild_wrapper_subclass", subclass), REFUSED("torch._tensor", "_rebuild_from_type_v2", subclass),
    REFUSED("torch._tensor", "_rebuild_from_type", subclass),
    REFUSED("torch.storage", "_load_from_bytes", "a tensor pickled without torch.save; save the state dictionary with torch.save"),
    { NULL, NULL, CX_PK_REFUSED, CX_TORCH_OTHER, NULL },
};
