#!/usr/bin/env python3
"""Writes tests/golden/keras_read, for tests/weights/test_read.c: a small network in the three formats of Keras 3, and its weights by path as safetensors.

    tools/oracle/keras_files.py [FOLDER]      needs keras 3 with any backend, h5py, safetensors

Norms without gamma or beta, a depthwise convolution, and a model inside the model: what the names in Keras' files do not say by themselves.
"""
import os
import sys

import keras
import numpy as np
from keras import layers as L
from safetensors.numpy import save_file


def network():
    x = image = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, name="first")(x)
    x = L.BatchNormalization(scale=False, name="no_gamma")(x)
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.BatchNormalization(center=False, name="no_beta")(x)
    x = keras.Sequential([keras.Input((4, 4, 4)), L.Conv2D(5, 3, name="first"), L.BatchNormalization(name="norm")], name="backbone")(x)
    x = L.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(image, L.Dense(2, name="head")(x))


def main(folder):
    os.makedirs(folder, exist_ok=True)
    model, rng = network(), np.random.default_rng(7)
    for w in model.weights:
        x = rng.normal(size=w.shape).astype("float32")
        w.assign(np.abs(x) if w.path.endswith("variance") else x)
    model.save(os.path.join(folder, "net.keras"))
    model.save_weights(os.path.join(folder, "net.weights.h5"))
    model.save(os.path.join(folder, "net.h5"))
    save_file({w.path: np.array(keras.ops.convert_to_numpy(w)) for w in model.weights}, os.path.join(folder, "expected.safetensors"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/keras_read")
