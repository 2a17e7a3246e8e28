"""Where in a network a node sits, from its ONNX graph."""

from __future__ import annotations

import onnx


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: tools that leave nodes out do it by name."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def after_last_convolution(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes from which no convolution is reached: decoding and what joins the heads.

    Names the nodes.
    """
    name_nodes(model)
    needed: set[str] = set()
    tail = []
    for node in reversed(model.graph.node):  # a graph is sorted: inputs come first
        if node.op_type == "Conv" or needed.intersection(node.output):
            needed.update(node.input)
        else:
            tail.append(node)
    return tail[::-1]


def convolutions(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, int]]:
    """Each convolution with the stride of its output: input width / width of its output.

    Names the nodes. Raises ValueError where the input's or an output's width is not in the graph.
    """
    name_nodes(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    input_width = shapes[model.graph.input[0].name][-1]
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        width = (shapes.get(node.output[0]) or [0])[-1]
        if not width or not input_width:
            raise ValueError(f"the width of '{node.output[0]}' is not known: use a static shape")
        found.append((node, max(1, input_width // width)))
    return found


def prediction_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that write the predictions: no other one comes after them."""
    name_nodes(model)
    reaching: set[str] = set()
    found = []
    for node in reversed(model.graph.node):
        if node.op_type == "Conv" and not reaching.intersection(node.output):
            found.append(node.name)
        if node.op_type == "Conv" or reaching.intersection(node.output):
            reaching.update(node.input)
    return found[::-1]
