"""Files of PyTorch for tests/weights/test_torch.c, and what they hold: tests/golden/torch/* and expected.safetensors, whose tensors are called FILE|NAME
(floats as float32) and whose metadata say for each file its format, container and the names in order. torch.load reads each file back before it counts.
Run from the root of the repository."""
import collections
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = "tests/golden/torch"
WIDER = {torch.int16: torch.int32, torch.int8: torch.int32, torch.uint16: torch.int32, torch.uint32: torch.int64}
tensors, notes = {}, {}


def expect(name, kind, container, state):
    notes[name] = "\n".join([kind, container, *state])
    for key, t in state.items():
        t = t.detach()
        t = t.float() if t.is_floating_point() else t.to(WIDER.get(t.dtype, t.dtype))
        tensors[f"{name}|{key}"] = t.clone().contiguous()


def read_back(path, at, state):
    got = torch.load(path, weights_only=False)
    for key in at:
        got = got[key]
    assert list(got) == list(state), (path, list(got))
    for key, t in state.items():
        assert got[key].dtype == t.dtype and torch.equal(got[key], t), (path, key)


def save(name, what, at, state, zipped=True, protocol=2):
    path = f"{FOLDER}/{name}"
    torch.save(what, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    read_back(path, at, state)
    expect(name, "torch zip" if zipped else "torch legacy", "/".join(at) or "top", state)


def network():
    torch.manual_seed(7)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.randn(3, 1, 4, 4)).square().mean().backward()
    optimiser.step()
    return net, optimiser


def checkpoint():
    """As the training scripts of torchvision, CheXNet's reimplementations and others write it: named .pth.tar, though no tar."""
    net, optimiser = network()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [30, 60])
    state = collections.OrderedDict(("module." + k, v) for k, v in net.state_dict().items())
    return {
        "epoch": 12, "arch": "densenet121", "best_acc1": torch.tensor(0.75), "best_loss": np.float64(0.125), "seen": np.int64(1 << 40), "ok": np.bool_(True),
        "history": np.arange(3, dtype=np.float32), "rate": 1e-3, "nothing": None, "flags": (True, False), "large": 1 << 70, "bytes": b"\x00\xff", "set": {1, 2},
        "state_dict": state, "optimizer": optimiser.state_dict(), "scheduler": schedule.state_dict(), "device": torch.device("cpu"), "dtype": torch.float32,
    }, state


def types():
    x = torch.tensor([1.5, -2.0, 0.1, 65504.0])
    return {
        "float": x, "double": x.double() / 3, "half": torch.cat([x, torch.tensor([6e-8, -6.1e-5])]).half(), "bfloat16": (x / 7).bfloat16(),
        "long": torch.tensor([-1, 1 << 62]), "int": torch.tensor([-5, 2**31 - 1], dtype=torch.int32), "short": torch.tensor([-300, 32767], dtype=torch.int16),
        "char": torch.tensor([-128, 127], dtype=torch.int8), "byte": torch.tensor([0, 200], dtype=torch.uint8), "bool": torch.tensor([True, False, True]),
        "uint16": torch.tensor([1, 65535], dtype=torch.uint16), "uint32": torch.tensor([1, 2**32 - 1], dtype=torch.uint32),
    }


def views():
    base = torch.arange(120, dtype=torch.float32).reshape(2, 3, 4, 5) / 16
    tied = torch.tensor([0.5, 0.25])
    return {
        "whole": base, "transposed": base.permute(3, 1, 0, 2), "steps": base[:, ::2, 1:, ::3], "last": base.reshape(-1)[117:], "one": base[1, 2, 3, 4],
        "beyond": base.reshape(-1)[120:], "expanded": tied.reshape(2, 1).expand(2, 3), "tied.a": tied, "tied.b": tied, "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3), "deep": torch.arange(4.).reshape(1, 2, 1, 1, 2, 1, 1, 1), "nach \u00fcber": torch.ones(1),
    }


def repack(name, source, method, change):
    """The same members again, each as change(member, bytes) says."""
    with zipfile.ZipFile(f"{FOLDER}/{source}") as old, zipfile.ZipFile(f"{FOLDER}/{name}", "w", method) as new:
        for m in old.infolist():
            new.writestr(zipfile.ZipInfo(m.filename), change(m.filename, old.read(m)), method)


def big_endian(source, state):
    """What a big-endian machine writes: its storages and its byteorder."""
    def change(name, data):
        if name.endswith("/byteorder"):
            return b"big"
        return np.frombuffer(data, "<f4").astype(">f4").tobytes() if "/data/" in name else data
    repack("big_endian.pt", source, zipfile.ZIP_STORED, change)
    read_back(f"{FOLDER}/big_endian.pt", [], state)
    expect("big_endian.pt", "torch zip", "top", state)


def first_format():
    """PyTorch 0.3 under Python 2: _rebuild_tensor with torch.Size, an ordered dictionary of pairs, texts of bytes. No such PyTorch runs any more, so its
    pickle is written here instruction by instruction; today's still reads it."""
    values = torch.arange(6.).reshape(2, 3) - 2
    text = lambda s: b"U" + bytes([len(s)]) + s
    size = lambda *d: b"ctorch\nSize\n(" + b"(" + b"".join(b"K" + bytes([i]) for i in d) + b"tt" + b"R"
    pid = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"41") + text(b"cuda:0") + b"K\x06NtQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + pid + b"K\x00" + size(2, 3) + b"(K\x03K\x01ttR"
    main = b"\x80\x02ccollections\nOrderedDict\n(](](" + text(b"fc.weight") + tensor + b"eetR."
    out = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 8}}):
        pickle.dump(part, out, protocol=2)
    out.write(main)
    pickle.dump(["41"], out, protocol=2)
    out.write(struct.pack("<q", 6) + values.numpy().tobytes())
    with open(f"{FOLDER}/first.pth", "wb") as f:
        f.write(out.getvalue())
    got = torch.load(f"{FOLDER}/first.pth", weights_only=False, map_location="cpu", encoding="latin1")
    assert torch.equal(got["fc.weight"], values)
    expect("first.pth", "torch legacy", "top", {"fc.weight": values})


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    net, _ = network()
    plain = net.state_dict()
    parameters = dict(net.named_parameters())
    whole, state = checkpoint()
    save("state.pt", plain, [], plain)
    save("state_legacy.pth", plain, [], plain, zipped=False)
    save("protocol4.pt", plain, [], plain, protocol=4)
    save("protocol5_legacy.pth", plain, [], plain, zipped=False, protocol=5)
    save("checkpoint.pth.tar", whole, ["state_dict"], state)
    save("checkpoint_legacy.pth.tar", whole, ["state_dict"], state, zipped=False)
    save("parameters.pt", {"model": {"net": parameters}, "step": 3}, ["model", "net"], parameters)
    save("types.pt", types(), [], types())
    save("types_legacy.pth", {"model_state_dict": {k: v for k, v in types().items() if "uint" not in k}}, ["model_state_dict"],
         {k: v for k, v in types().items() if "uint" not in k}, zipped=False)
    save("views.pt", views(), [], views())
    save("views_legacy.pth", views(), [], views(), zipped=False)
    save("floats.pt", {k: v for k, v in parameters.items()}, [], parameters)
    big_endian("floats.pt", parameters)
    repack("deflated.pt", "state.pt", zipfile.ZIP_DEFLATED, lambda name, data: data)
    read_back(f"{FOLDER}/deflated.pt", [], plain)
    expect("deflated.pt", "torch zip", "top", plain)
    first_format()
    save_file(tensors, f"{FOLDER}/expected.safetensors", metadata=notes)
    print(len(notes), "files,", len(tensors), "tensors,", sum(os.path.getsize(f"{FOLDER}/{f}") for f in os.listdir(FOLDER)), "bytes")
