"""Files for tests/weights/test_map.c: weights as Keras and PyTorch name and lay them out, with what their networks answer. Needs keras (any backend), torch,
safetensors. Run from the root of the repository; KERAS_BACKEND=torch does without TensorFlow.

foreign.safetensors   "SET|PLACE|NAME": a tensor of a set and its place in the file; "SET.out": the answer to x[i] = (i mod 251) / 251
foreign_names.csv     name, shape and partner in torchvision's network of every tensor of Keras applications' DenseNet-121 with 14 classes;
                      partners are found by walking both networks in the order of their layers"""
import csv

import keras
import numpy as np
import torch
import torchvision
from keras import layers
from safetensors.numpy import save_file

out = {}


def pattern(*shape):
    return ((np.arange(np.prod(shape)) % 251).astype(np.float32) / np.float32(251)).reshape(shape)


def put(name, tensors, answer):
    for i, (key, value) in enumerate(tensors):
        out[f"{name}|{i:03}|{key}"] = np.ascontiguousarray(value, dtype=np.float32)
    out[f"{name}.out"] = np.ascontiguousarray(answer, dtype=np.float32)


def put_keras(name, model, shape):
    rng = np.random.default_rng(sum(map(ord, name)))
    for w in model.weights:
        w.assign(rng.uniform(-0.6, 0.6, w.shape).astype(np.float32))
    tensors = [(f"{layer.name}/{w.name}", keras.ops.convert_to_numpy(w)) for layer in model.layers for w in layer.weights]
    put(name, tensors, model.predict(pattern(*shape), verbose=0))


def keras_unet(base=2, depth=2):
    """The Kaggle notebook's network, narrow and shallow."""
    keras.backend.clear_session()
    x = inputs = keras.Input((8, 8, 1))
    skips = []
    for i in range(depth + 1):
        for _ in range(2):
            x = layers.Conv2D(base << i, 3, padding="same", activation="relu")(x)
        if i < depth:
            skips.append(x)
            x = layers.MaxPooling2D()(x)
    for i in reversed(range(depth)):
        x = layers.concatenate([layers.Conv2DTranspose(base << i, 2, strides=2, padding="same")(x), skips[i]])
        for _ in range(2):
            x = layers.Conv2D(base << i, 3, padding="same", activation="relu")(x)
    put_keras("keras_unet", keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x)), (1, 8, 8, 1))


def keras_flat():
    """Two convolutions of one shape whose automatic numbers run backwards, a flattened map, a dense layer."""
    keras.backend.clear_session()
    second, first = layers.Conv2D(3, 3, activation="relu", name="conv2d"), layers.Conv2D(3, 3, activation="relu", name="conv2d_1")
    inputs = keras.Input((8, 9, 3))
    put_keras("keras_flat", keras.Model(inputs, layers.Dense(2, name="any")(layers.Flatten()(second(first(inputs))))), (1, 8, 9, 3))


class TorchUnet(torch.nn.Module):
    def __init__(self, base=2, depth=2):
        super().__init__()
        twice = lambda i, o: torch.nn.Sequential(torch.nn.Conv2d(i, o, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(o, o, 3, padding=1), torch.nn.ReLU())
        wide = [base << i for i in range(depth + 1)]
        self.down = torch.nn.ModuleList(twice(i, o) for i, o in zip([1] + wide, wide))
        self.ups = torch.nn.ModuleList()
        for i in reversed(range(depth)):
            self.ups.append(torch.nn.ModuleDict({"up": torch.nn.ConvTranspose2d(wide[i + 1], wide[i], 2, 2), "convs": twice(wide[i + 1], wide[i])}))
        self.last = torch.nn.Conv2d(base, 1, 1)

    def forward(self, x):
        kept = []
        for i, level in enumerate(self.down):
            x = level(torch.nn.functional.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, skip in zip(self.ups, reversed(kept[:-1])):
            x = up["convs"](torch.cat([up["up"](x), skip], 1))
        return torch.sigmoid(self.last(x))


def put_torch(name, model, shape):
    torch.manual_seed(1)
    for p in model.parameters():
        torch.nn.init.uniform_(p, -0.6, 0.6)
    with torch.no_grad():
        y = model.eval()(torch.tensor(pattern(*shape)).permute(0, 3, 1, 2))
    put(name, [(k, v.numpy()) for k, v in model.state_dict().items()], y.permute(0, 2, 3, 1) if y.dim() == 4 else y)


def densenet_names():
    ours = [k for k in torchvision.models.densenet121(num_classes=14).state_dict() if not k.endswith("num_batches_tracked")]
    model = keras.applications.DenseNet121(weights=None, classes=14)
    theirs = [(f"{layer.name}/{w.name}", tuple(w.shape)) for layer in model.layers for w in layer.weights]
    assert len(ours) == len(theirs)
    with open("tests/golden/foreign_names.csv", "w", newline="") as f:
        rows = csv.writer(f, lineterminator="\n")
        rows.writerow(["name", "shape", "value"])
        rows.writerows((name, "x".join(map(str, shape)), value) for (name, shape), value in zip(theirs, ours))


if __name__ == "__main__":
    keras_unet()
    keras_flat()
    put_torch("torch_unet", TorchUnet(), (1, 8, 8, 1))
    flat = [torch.nn.Conv2d(3, 3, 3), torch.nn.ReLU(), torch.nn.Conv2d(3, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 5 * 3, 2)]
    put_torch("torch_flat", torch.nn.Sequential(*flat), (1, 8, 9, 3))
    densenet_names()
    save_file(out, "tests/golden/foreign.safetensors")
    print(len(out), "tensors written,", sum(v.nbytes for v in out.values()), "bytes")
