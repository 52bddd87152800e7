"""The classifier as a graph: patches to scores."""

from __future__ import annotations

from penstock.graphs import Export, Graph
from workloads.pathology.predict import MOST_TILES, PathologyPredictor


def export(predictor: PathologyPredictor) -> Export:
    """Every network can leave."""
    size, labels = predictor.size, list(predictor.labels)
    graph = Graph(
        predictor.module,
        inputs={"patches": ("batch", 3, size, size)},
        outputs={"scores": ("batch", len(labels))},
    )
    return Export(
        {"model": graph},
        preprocessing={
            "steps": [
                "decode the picture as RGB, turned as its EXIF orientation says",
                "a picture whose longer side is less than twice `patch` pixels is one patch; a larger one is "
                "cut into tiles of `patch` pixels that overlap by half (side by side above `most_tiles`)",
                "scale each to size x size pixels, bilinear with antialiasing (Pillow's BILINEAR)",
                "channels first, divided by 255; normalisation is in the graph",
            ],
            "size": size,
            "patch": predictor.side,
            "most_tiles": MOST_TILES,
            "colours": "RGB",
            "range": [0.0, 1.0],
        },
        postprocessing={
            "steps": [
                "softmax over the scores, in float64: probabilities of the labels, in their order",
                "of a tiled picture: the mean of the tiles' probabilities; its map is the positive label's, "
                "tile by tile (of more than two labels the answer's)",
                "the label is the one of the largest probability",
                "heat maps of single patches (Grad-CAM) need gradients and are not in the graph",
            ],
            "labels": labels,
            "positive": predictor.positive,
        },
    )
