#pragma once
/// \file
/// Tensors between ONNX's protobuf and the program's model.
#include "slr/graph/model.hpp"

#include <filesystem>
#include <onnx/onnx_pb.h>
#include <string>

namespace slr::graph {

/// The tensor, its bytes moved out of the message where they are raw, read from `folder` where they are external. Every
/// size is compared with what is there before memory is taken. Local.
/// \throws Error{bad_data} naming `what`, Error{io} if an external file cannot be read.
[[nodiscard]] Tensor take_tensor(onnx::TensorProto& proto, const std::filesystem::path& folder,
                                 const std::string& what);

/// The file that an external location names, if it lies inside `folder` also after links are followed. Local.
/// \throws Error{bad_data} naming `what`
[[nodiscard]] std::filesystem::path external_file(const std::string& location, const std::filesystem::path& folder,
                                                  const std::string& what);

/// Type and dimensions; the data stays to be filled in. Local.
void fill_header(onnx::TensorProto& proto, const std::string& name, const Tensor& tensor);

/// The whole tensor, as raw bytes. Local.
void fill_tensor(onnx::TensorProto& proto, const std::string& name, const Tensor& tensor);

/// The element type with ONNX's number, Error{bad_data} if the program does not know it. Local.
[[nodiscard]] ElementType element_type(int number, const std::string& what);

} // namespace slr::graph
