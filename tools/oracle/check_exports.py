"""Shows what `cxnet weights export` writes to the programs it is written for, and compares their answers. Run from the root of the repository:

    KERAS_BACKEND=torch python3 tools/oracle/check_exports.py build/release/cxnet

For each network: weights drawn in PyTorch or Keras -> import -> verify against the source -> export -> torchvision's or our own PyTorch module, Keras, ONNX
Runtime. Prints the largest difference of the logits, as a share of the largest logit; 1e-4 is wanted. Needs torch, torchvision, safetensors, keras, onnx and
onnxruntime."""
import os
import subprocess
import sys
import tempfile

import keras
import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from keras import layers
from safetensors.torch import load_file, save_file

WANTED = 1e-4
program, failures = sys.argv[1], 0


def cxnet(*words):
    done = subprocess.run([program, "weights", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cxnet weights {' '.join(words)}: {done.stderr}")


def films(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def report(what, got, want):
    global failures
    apart = float(np.abs(np.asarray(got).ravel() - np.asarray(want).ravel()).max() / np.abs(want).max())
    failures += not apart <= WANTED
    print(f"{what:60} {apart:.2g}{'' if apart <= WANTED else '  WRONG'}")


def by_onnx(path, x, output="logits"):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    meta = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert "cxnet.model" in meta and "preprocessing" in meta, meta
    return onnxruntime.InferenceSession(path).run([output], {"films": x.transpose(0, 3, 1, 2).copy()})[0]


def by_torch(model, x):
    with torch.no_grad():
        return model.eval()(torch.tensor(x).permute(0, 3, 1, 2)).numpy()


def by_keras(model, path, x):
    model.load_weights(path)
    return model.predict(x, verbose=0)


def exports(folder, source, *flags):
    """Imports a source, holds the result against it, and exports it in every format."""
    out = {form: f"{folder}/{form}{end}" for form, end in (("torchvision", ".safetensors"), ("keras", ".h5"), ("onnx", ".onnx"))}
    cxnet("import", source, *flags, "--out", f"{folder}/ours.safetensors")
    cxnet("verify", f"{folder}/ours.safetensors", "--against", source)
    for form, path in out.items():
        cxnet("export", f"{folder}/ours.safetensors", "--format", form, "--out", path)
        cxnet("verify", f"{folder}/ours.safetensors", *(["--against", path] if form != "onnx" else []))
    return out


def draw(model):
    """Weights far from their initial ones, so that no two can be taken for each other, and statistics that keep the maps in bounds."""
    for name, t in model.state_dict().items():
        if name.endswith("running_var"):
            t.uniform_(0.5, 2)
        elif t.dim() == 1:
            t.uniform_(-0.2, 0.4) if "bias" in name or "mean" in name else t.uniform_(0.6, 1.4)


def densenet(folder, arch):
    torch.manual_seed(3)
    model, x = getattr(torchvision.models, arch)(num_classes=5), films(2, 64, 64, 3)
    draw(model)
    source = f"{folder}/{arch}.safetensors"
    save_file({"module." + k: v.contiguous() for k, v in model.state_dict().items()}, source)
    want, out = by_torch(model, x), exports(folder, source, "--side", "64", "--normalise", "imagenet")
    again = getattr(torchvision.models, arch)(num_classes=5)
    print(again.load_state_dict(load_file(out["torchvision"])))
    report(f"{arch}: torchvision {torchvision.__version__}", by_torch(again, x), want)
    report(f"{arch}: ONNX Runtime {onnxruntime.__version__}", by_onnx(out["onnx"], x), want)
    theirs = getattr(keras.applications, arch.replace("densenet", "DenseNet"))(weights=None, classes=5, classifier_activation=None, input_shape=(64, 64, 3))
    for layer in theirs.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.epsilon = 1e-5          # what this network was made with; Keras' own would be 1.001e-5
    report(f"{arch}: Keras {keras.__version__} {keras.backend.backend()}", by_keras(theirs, out["keras"], x), want)


def scrambled(model):
    rng = np.random.default_rng(4)
    for w in model.weights:
        w.assign(rng.normal(0, 1.2 / np.sqrt(np.prod(w.shape[:-1])), w.shape).astype(np.float32) if len(w.shape) > 1
                 else rng.uniform(0.5 if "variance" in w.path else -0.2, 0.9, w.shape).astype(np.float32))
    return model


def keras_base_cnn():
    x = inputs = keras.Input((97, 97, 3))
    for i in range(5):
        x = layers.Conv2D(32, 3 if i else 5, strides=2, activation="relu")(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(10, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def base_cnn(folder):
    model, x = scrambled(keras_base_cnn()), films(2, 97, 97, 3)
    source = f"{folder}/base.weights.h5"
    model.save_weights(source)
    want, out = model.predict(x, verbose=0), exports(folder, source, "--side", "97", "--normalise", "unit")
    report("base_cnn: Keras", by_keras(scrambled(keras_base_cnn()), out["keras"], x), want)
    report("base_cnn: ONNX Runtime", by_onnx(out["onnx"], x), want)
    convs = [m for i in range(5) for m in (torch.nn.Conv2d(32 if i else 3, 32, 3 if i else 5, 2), torch.nn.ReLU())]
    denses = [torch.nn.Flatten(), torch.nn.Linear(128, 10), torch.nn.ReLU(), torch.nn.Linear(10, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3)]
    ours = torch.nn.Sequential(*convs, *denses)
    ours.load_state_dict(dict(zip(ours.state_dict(), load_file_in_order(out["torchvision"]))))
    report("base_cnn: PyTorch, tensors in order", by_torch(ours, x), want)


def load_file_in_order(path):
    names = [f"{layer}{i}.{part}" for layer, n in (("conv", 5), ("dense", 2)) for i in range(1, n + 1) for part in ("weight", "bias")]
    tensors = load_file(path)
    return [tensors[name] for name in names + ["classifier.weight", "classifier.bias"]]


def keras_unet(norm, base=4, depth=3):
    def twice(x, out):
        for _ in range(2):
            x = layers.Conv2D(out, 3, padding="same", use_bias=not norm)(x)
            x = layers.Activation("relu")(layers.BatchNormalization(epsilon=1e-3)(x) if norm else x)
        return x
    x, skips = keras.Input((32, 32, 1)), []
    inputs = x
    for i in range(depth):
        skips.append(twice(x, base << i))
        x = layers.MaxPooling2D()(skips[-1])
    x = twice(x, base << depth)
    for i in reversed(range(depth)):
        x = twice(layers.concatenate([layers.Conv2DTranspose(base << i, 2, strides=2)(x), skips[i]]), base << i)
    return keras.Model(inputs, layers.Conv2D(1, 1)(x))


def unet(folder, norm):
    model, x = scrambled(keras_unet(norm)), films(2, 32, 32, 1)
    source, what = f"{folder}/unet{norm}.weights.h5", "unet with norms" if norm else "unet"
    model.save_weights(source)
    want, out = model.predict(x, verbose=0), exports(folder, source, "--side", "32", "--normalise", "signed", *(["--epsilon", "1e-3"] if norm else []))
    report(f"{what}: Keras", by_keras(scrambled(keras_unet(norm)), out["keras"], x), want)
    report(f"{what}: ONNX Runtime", by_onnx(out["onnx"], x).transpose(0, 2, 3, 1), want)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    with tempfile.TemporaryDirectory() as place:
        for arch in ("densenet121", "densenet169"):
            densenet(place, arch)
        base_cnn(place)
        unet(place, False)
        unet(place, True)
    sys.exit(f"{failures} of the answers are wrong" if failures else 0)
