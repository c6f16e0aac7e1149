// The part of XLA's C interface for foreign functions that the handlers for JAX, and for functions
// that TensorFlow compiles with XLA, use.
//
// Declared here by ourselves, at version 0.1 of that interface: XLA takes handlers of an older
// version, and one that says it is newer than the runtime takes the user's whole CPU platform down
// (0.1 loads on every jaxlib from 0.5.3 on). tests/test_xla_ffi.py compares sizes, offsets and
// constants with the header of the jaxlib that is installed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "floating_point.h"

namespace crossent {
namespace xla {

constexpr int kMajorVersion = 0;
constexpr int kMinorVersion = 1;
// That of the structs by which handlers are registered: TensorFlow 2.21's. Those of 0.5 are longer.
constexpr int kRegisteringMinor = 2;

enum class DataType : std::int32_t {
    boolean = 1,
    int8 = 2,
    int16 = 3,
    int32 = 4,
    int64 = 5,
    uint8 = 6,
    uint16 = 7,
    uint32 = 8,
    uint64 = 9,
    float16 = 10,
    float32 = 11,
    float64 = 12,
    bfloat16 = 16,
};

enum class Stage : std::int32_t { execute = 3 };
enum class AttributeType : std::int32_t { scalar = 3 };
enum class ErrorCode : std::int32_t { invalid_argument = 3, resource_exhausted = 8 };
enum class ExtensionType : std::int32_t { metadata = 1 };

struct Extension {
    std::size_t struct_size;
    ExtensionType type;
    Extension* next;
};

struct ApiVersion {
    std::size_t struct_size;
    Extension* extensions;
    int major_version;
    int minor_version;
};

// Newer runtimes have more behind `traits`; a handler of version 0.1 leaves it alone.
struct Metadata {
    std::size_t struct_size;
    ApiVersion api_version;
    std::uint32_t traits;
};

// XLA asks a handler what it is by a call with this extension and no stage.
struct MetadataExtension {
    Extension base;
    Metadata* metadata;
};

struct Error;  // XLA's own

struct ErrorArguments {
    std::size_t struct_size;
    Extension* extensions;
    const char* message;
    ErrorCode code;
};

struct RegisterArguments;

struct Api {
    std::size_t struct_size;
    Extension* extensions;
    ApiVersion api_version;
    const void* internal;
    Error* (*create_error)(ErrorArguments* arguments);
    void* get_message;
    void* destroy_error;
    Error* (*register_handler)(RegisterArguments* arguments);
};

struct Buffer {
    std::size_t struct_size;
    Extension* extensions;
    DataType type;
    void* data;
    std::int64_t rank;
    std::int64_t* shape;
};

struct Scalar {
    DataType type;
    void* value;
};

struct Name {
    const char* data;
    std::size_t size;
};

// Arguments or results; `values` are Buffers.
struct Buffers {
    std::size_t struct_size;
    Extension* extensions;
    std::int64_t size;
    std::int32_t* types;
    Buffer** values;
};

struct Attributes {
    std::size_t struct_size;
    Extension* extensions;
    std::int64_t size;
    AttributeType* types;
    Name** names;
    void** values;
};

struct CallFrame {
    std::size_t struct_size;
    Extension* extensions;
    const Api* api;
    void* context;
    Stage stage;
    Buffers arguments;
    Buffers results;
    Attributes attributes;
};

using Handler = Error* (*)(CallFrame*);

// Only `execute` must be there.
struct Bundle {
    Handler instantiate;
    Handler prepare;
    Handler initialize;
    Handler execute;
};

struct RegisterArguments {
    std::size_t struct_size;
    Extension* extensions;
    Name name;
    Name platform;
    Bundle bundle;
    std::uint32_t traits;
};

}  // namespace xla

struct XlaHandler {
    const char* name;
    xla::Handler function;
};

// The handlers, ended by a null name.
const XlaHandler* xla_handlers();

// Makes them known to the XLA of another library. False: its interface is another, or it refuses.
bool register_xla_handlers(const xla::Api& api);

}  // namespace crossent
