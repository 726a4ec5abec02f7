"""A graph that encodes images in 8-bit integers, made from the small network's graph that does so in float32.

On processors, convolutions in integers take half the time. ONNX Runtime's own tool quantizes them; what is done here
beside it keeps the features close to the original ones, and the graph fast, on processors of any kind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.utils import Extractor
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from taptr_ros.model.trunk import PIXEL_MEAN, PIXEL_RANGE

LARGEST_WEIGHT = 64
"""Weights are integers from -64 to 64. Processors without instructions for neural networks (VNNI) add two products of
an activation, 0 to 255, and a weight in 16 bits, which larger weights could overflow."""

OPERATORS = ("Conv", "Clip", "Relu", "Add", "Concat", "Reshape", "Transpose")
"""ONNX operators that compute in integers."""

PIXEL_SCALE, PIXEL_ZERO = np.float32(1.0 / PIXEL_RANGE), np.uint8(PIXEL_MEAN)
"""What an image's integers stand for once the network has normalised them."""


def quantize_encoder(encode: Path, quantized: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Write a graph that computes what the small network's graph `encode` does, with convolutions in 8-bit integers.

    It takes uint8 images. Activations are rounded within the ranges that they have on `images`, uint8 [height,width,3]
    of the graph's size; weights, by channel, to one of 129 values. What rounding a channel's weights adds to its
    outputs on average is taken from its bias ("Data-Free Quantization Through Weight Equalization and Bias Correction",
    arXiv 1906.04721, section 4.2).
    """
    with tempfile.TemporaryDirectory() as folder:
        float_path, integer_path = Path(folder) / "float.onnx", Path(folder) / "integer.onnx"
        quant_pre_process(str(encode), str(float_path), skip_symbolic_shape=True)
        whole = onnx.load(float_path)
        # From the normalised image to the levels before their vectors get length 1.
        pixels = next(node.input[0] for node in whole.graph.node if node.op_type == "Conv")
        levels = [_projection(whole.graph, output.name) for output in whole.graph.output]
        convolutions = Extractor(whole).extract_model([pixels], levels)
        # They say that the graph has been prepared; ONNX Runtime warns otherwise.
        convolutions.metadata_props.extend(whole.metadata_props)
        _enlarge_by_copies(convolutions.graph)
        inputs = [{pixels: PIXEL_SCALE * (image.transpose(2, 0, 1)[None] - np.float32(PIXEL_ZERO))} for image in images]
        _correct_biases(convolutions, inputs)
        onnx.save(convolutions, float_path)
        weights = {"quant_type": QuantType.QInt8, "symmetric": True, "reduce_range": True, "axis": 0}
        overrides = {node.input[1]: [weights] for node in convolutions.graph.node if node.op_type == "Conv"}
        overrides[pixels] = [{"scale": np.array(PIXEL_SCALE), "zero_point": np.array(PIXEL_ZERO)}]
        quantize_static(
            str(float_path),
            str(integer_path),
            _Images(inputs),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(OPERATORS),
            extra_options={"TensorQuantOverrides": overrides},
        )
        integer = onnx.load(integer_path)
    # The tools have added all sets of operators that ONNX Runtime knows; only ONNX's own is used.
    plain = [opset for opset in integer.opset_import if not opset.domain]
    del integer.opset_import[:]
    integer.opset_import.extend(plain)
    _take_bytes(integer.graph, pixels, images[0].shape)
    _give_unit_vectors(integer.graph, levels, [output.name for output in whole.graph.output])
    onnx.save(integer, quantized)


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Inputs of the graph, one after the other, for ONNX Runtime to find the ranges of activations."""

    def __init__(self, inputs: Sequence[dict[str, NDArray[np.float32]]]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input; None after the last."""
        return next(self._inputs, None)


def _projection(graph: onnx.GraphProto, output: str) -> str:
    """Return the output of the last convolution before an output of the graph, its sum of squares left aside."""
    makers = {name: node for node in graph.node for name in node.output}
    squares = {node.output[0] for node in graph.node if node.op_type == "Mul" and node.input[0] == node.input[1]}
    name = output
    while makers[name].op_type != "Conv" or makers[name].input[0] in squares:
        name = makers[name].input[0]
    return name


def _enlarge_by_copies(graph: onnx.GraphProto) -> None:
    """Let every enlargement by two copy whole pixels, channels last: a resize of integers takes ten times as long."""
    shapes = {info.name: [size.dim_value for size in info.type.tensor_type.shape.dim] for info in graph.value_info}
    nodes = []
    factors = {node.input[2] for node in graph.node if node.op_type == "Resize"}
    kept = [initializer for initializer in graph.initializer if initializer.name not in factors]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        if node.op_type != "Resize":
            nodes.append(node)
            continue
        name = node.output[0]
        _, channels, height, width = shapes[node.input[0]]
        for part, shape in (
            ("lines", (1, height, 2 * width * channels)),
            ("pixels", (1, 2 * height, 2 * width, channels)),
        ):
            graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}_{part}_shape"))
        nodes += [
            helper.make_node("Transpose", [node.input[0]], [f"{name}_last"], f"{name}_to_last", perm=[0, 2, 3, 1]),
            helper.make_node("Concat", [f"{name}_last"] * 2, [f"{name}_wide"], f"{name}_widen", axis=3),
            helper.make_node("Reshape", [f"{name}_wide", f"{name}_lines_shape"], [f"{name}_lines"], f"{name}_to_lines"),
            helper.make_node("Concat", [f"{name}_lines"] * 2, [f"{name}_high"], f"{name}_heighten", axis=2),
            helper.make_node(
                "Reshape", [f"{name}_high", f"{name}_pixels_shape"], [f"{name}_pixels"], f"{name}_to_pixels"
            ),
            helper.make_node("Transpose", [f"{name}_pixels"], [name], f"{name}_to_first", perm=[0, 3, 1, 2]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def _correct_biases(model: onnx.ModelProto, inputs: Sequence[dict[str, NDArray[np.float32]]]) -> None:
    """Take from every bias what rounding the weights adds to the convolution's outputs, on average over `inputs`."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    means = _channel_means(model, sorted({node.input[0] for node in convolutions}), inputs)
    initializers = {initializer.name: initializer for initializer in model.graph.initializer}
    for node in convolutions:
        weight = numpy_helper.to_array(initializers[node.input[1]])
        largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
        scale = np.where(largest > 0.0, largest, 1.0) / LARGEST_WEIGHT
        error = (np.rint(weight / scale) * scale - weight).sum(axis=(2, 3))
        mean = means[node.input[0]]
        # A depthwise convolution has one input channel for each of its outputs.
        added = error[:, 0] * mean if error.shape[1] == 1 else error @ mean
        bias = initializers[node.input[2]]
        bias.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(bias) - added).astype(np.float32), bias.name))


def _channel_means(
    model: onnx.ModelProto, names: Sequence[str], inputs: Sequence[dict[str, NDArray[np.float32]]]
) -> dict[str, NDArray[np.float32]]:
    """Return the mean [C] of each channel of tensors [1,C,h,w] of a graph, over `inputs`."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    inner = [name for name in names if name not in inputs[0]]
    watched.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inner)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    totals: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for values in inputs:
        for name, value in (*values.items(), *zip(inner, session.run(inner, values), strict=True)):
            totals[name].append(value.mean(axis=(0, 2, 3)))
    return {name: np.mean(parts, axis=0) for name, parts in totals.items()}


def _take_bytes(graph: onnx.GraphProto, pixels: str, shape: tuple[int, ...]) -> None:
    """Let the graph begin with `image`, uint8 [height,width,3], in place of the normalised `pixels`."""
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, shape))
    constants = {"image_axes": np.array([0], np.int64), "image_scale": PIXEL_SCALE, "image_zero": PIXEL_ZERO}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    first = [
        helper.make_node("Transpose", ["image"], ["image_channels"], "image_to_channels", perm=[2, 0, 1]),
        helper.make_node("Unsqueeze", ["image_channels", "image_axes"], ["image_bytes"], "image_to_batch"),
        helper.make_node("DequantizeLinear", ["image_bytes", "image_scale", "image_zero"], [pixels], "image_to_float"),
    ]
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _give_unit_vectors(graph: onnx.GraphProto, levels: Sequence[str], names: Sequence[str]) -> None:
    """Let the graph end with the vectors [h*w,C] of its `levels` [1,C,h,w], of length 1, called `names`."""
    shapes = [[size.dim_value for size in output.type.tensor_type.shape.dim] for output in graph.output]
    del graph.output[:]
    for level, name, (_, channels, height, width) in zip(levels, names, shapes, strict=True):
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (height * width, channels)))
        graph.initializer.append(numpy_helper.from_array(np.array([-1, channels], np.int64), f"{name}_shape"))
        graph.node.extend(
            [
                helper.make_node("Transpose", [level], [f"{name}_last"], f"{name}_to_last", perm=[0, 2, 3, 1]),
                helper.make_node(
                    "Reshape", [f"{name}_last", f"{name}_shape"], [f"{name}_vectors"], f"{name}_to_vectors"
                ),
                helper.make_node("LpNormalization", [f"{name}_vectors"], [name], f"{name}_to_length_1", axis=-1, p=2),
            ]
        )
