"""What native/xla_ffi.h says of XLA's interface is what XLA's own header says.

The structs are declared by ourselves, so a compiler compares them with the header of the jaxlib
that is installed, and JAX itself is asked what it makes of the handlers.
"""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from crossent import _numpy_native

NATIVE = Path(__file__).parent.parent / "native"

# The type that jaxlib 0.12 has given another name.
ALIAS = "using ExtensionOfXla = decltype(XLA_FFI_Metadata_Extension::extension_base);"

# Ours, theirs, and the fields in the order of both.
STRUCTS = {
    ("Extension", "ExtensionOfXla"): {
        "struct_size": "struct_size",
        "type": "type",
        "next": "next",
    },
    ("ApiVersion", "XLA_FFI_Api_Version"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "major_version": "major_version",
        "minor_version": "minor_version",
    },
    ("Metadata", "XLA_FFI_Metadata"): {
        "struct_size": "struct_size",
        "api_version": "api_version",
        "traits": "traits",
    },
    ("MetadataExtension", "XLA_FFI_Metadata_Extension"): {
        "base": "extension_base",
        "metadata": "metadata",
    },
    ("ErrorArguments", "XLA_FFI_Error_Create_Args"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "message": "message",
        "code": "errc",
    },
    ("Api", "XLA_FFI_Api"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "api_version": "api_version",
        "internal": "internal_api",
        "create_error": "XLA_FFI_Error_Create",
        "destroy_error": "XLA_FFI_Error_Destroy",
        "register_handler": "XLA_FFI_Handler_Register",
    },
    ("Buffer", "XLA_FFI_Buffer"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "type": "dtype",
        "data": "data",
        "rank": "rank",
        "shape": "dims",
    },
    ("Scalar", "XLA_FFI_Scalar"): {"type": "dtype", "value": "value"},
    ("Name", "XLA_FFI_ByteSpan"): {"data": "ptr", "size": "len"},
    ("Buffers", "XLA_FFI_Args"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "size": "size",
        "types": "types",
        "values": "args",
    },
    ("Buffers", "XLA_FFI_Rets"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "size": "size",
        "types": "types",
        "values": "rets",
    },
    ("Attributes", "XLA_FFI_Attrs"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "size": "size",
        "types": "types",
        "names": "names",
        "values": "attrs",
    },
    ("CallFrame", "XLA_FFI_CallFrame"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "api": "api",
        "context": "ctx",
        "stage": "stage",
        "arguments": "args",
        "results": "rets",
        "attributes": "attrs",
    },
}

# What registers handlers with TensorFlow's XLA; with jaxlib's, JAX does.
REGISTRATION = {
    ("Api", "XLA_FFI_Api"): {
        "api_version": "api_version",
        "get_message": "XLA_FFI_Error_GetMessage",
        "register_handler": "XLA_FFI_Handler_Register",
    },
    ("Bundle", "XLA_FFI_Handler_Bundle"): {
        "instantiate": "instantiate",
        "prepare": "prepare",
        "initialize": "initialize",
        "execute": "execute",
    },
    ("RegisterArguments", "XLA_FFI_Handler_Register_Args"): {
        "struct_size": "struct_size",
        "extensions": "extension_start",
        "name": "name",
        "platform": "platform",
        "bundle": "bundle",
        "traits": "traits",
    },
}

CONSTANTS = {
    "DataType::boolean": "XLA_FFI_DataType_PRED",
    "DataType::int8": "XLA_FFI_DataType_S8",
    "DataType::int16": "XLA_FFI_DataType_S16",
    "DataType::int32": "XLA_FFI_DataType_S32",
    "DataType::int64": "XLA_FFI_DataType_S64",
    "DataType::uint8": "XLA_FFI_DataType_U8",
    "DataType::uint16": "XLA_FFI_DataType_U16",
    "DataType::uint32": "XLA_FFI_DataType_U32",
    "DataType::uint64": "XLA_FFI_DataType_U64",
    "DataType::float16": "XLA_FFI_DataType_F16",
    "DataType::float32": "XLA_FFI_DataType_F32",
    "DataType::float64": "XLA_FFI_DataType_F64",
    "DataType::bfloat16": "XLA_FFI_DataType_BF16",
    "Stage::execute": "XLA_FFI_ExecutionStage_EXECUTE",
    "AttributeType::scalar": "XLA_FFI_AttrType_SCALAR",
    "ErrorCode::invalid_argument": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "ErrorCode::resource_exhausted": "XLA_FFI_Error_Code_RESOURCE_EXHAUSTED",
    "ExtensionType::metadata": "XLA_FFI_Extension_Metadata",
    "kMajorVersion": "XLA_FFI_API_MAJOR",
}


def layouts(structs):
    for (ours, theirs), fields in structs.items():
        for our, their in fields.items():
            mine, real = f"crossent::xla::{ours}", f"::{theirs}"
            yield f"offsetof({mine}, {our}) == offsetof({real}, {their})"
            yield f"sizeof({mine}::{our}) == sizeof({real}::{their})"


def asserts():
    yield from layouts(STRUCTS)
    for ours, theirs in CONSTANTS.items():
        yield f"static_cast<int>(crossent::xla::{ours}) == static_cast<int>({theirs})"
    yield "crossent::xla::kMinorVersion <= XLA_FFI_API_MINOR"


def jax_include():
    jax = pytest.importorskip("jax", reason="jaxlib, whose header this is about, is not installed")
    return jax.ffi.include_dir()


def compile_asserts(tmp_path, lines, theirs):
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = tmp_path / "layout.cpp"
    checks = "\n".join(f'static_assert({line}, "");' for line in lines)
    source.write_text(
        '#include "xla/ffi/api/c_api.h"\n#include "xla_ffi.h"\n#include <cstddef>\n'
        f"{ALIAS}\n{checks}\n"
    )
    include = ["-I", str(theirs), "-I", str(NATIVE)]
    command = [compiler, "-std=c++17", "-fsyntax-only", *include, str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_structs_and_constants_are_those_of_the_header(tmp_path):
    result = compile_asserts(tmp_path, asserts(), jax_include())
    assert result.returncode == 0, result.stderr


def test_what_registers_handlers_is_that_of_tensorflows_header(tmp_path):
    found = importlib.util.find_spec("tensorflow")
    if found is None:
        pytest.skip("TensorFlow, whose header this is about, is not installed")
    lines = [*layouts(REGISTRATION), "crossent::xla::kRegisteringMinor == XLA_FFI_API_MINOR"]
    result = compile_asserts(tmp_path, lines, Path(found.origin).parent / "include")
    assert result.returncode == 0, result.stderr


def test_a_wrong_offset_would_be_seen(tmp_path):
    wrong = "offsetof(crossent::xla::Buffer, data) == offsetof(::XLA_FFI_Buffer, rank)"
    assert "static assertion failed" in compile_asserts(tmp_path, [wrong], jax_include()).stderr


def test_handlers_have_the_names_that_python_calls():
    if _numpy_native.core is None:
        pytest.skip(_numpy_native.kernel)
    handlers = _numpy_native.core.xla_ffi_handlers()
    assert sorted(handlers) == ["crossent_sigmoid_loss", "crossent_softmax_loss"]
