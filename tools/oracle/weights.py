"""Files for tests/weights: python.safetensors is written by the safetensors package; ours.safetensors is what cxnet writes (the test holds it to the byte)
and is read here by that package. Run from the root of the repository."""
import torch
from safetensors import safe_open
from safetensors.torch import save_file

if __name__ == "__main__":
    tensors = {
        "features.conv0.weight": torch.arange(2 * 3 * 3 * 2, dtype=torch.float32).reshape(2, 3, 3, 2) / 8,
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros((0, 4), dtype=torch.float32),
        "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "brain": torch.tensor([[1.0], [-0.5]], dtype=torch.bfloat16),
        "long": torch.tensor([1, -2, 1 << 40], dtype=torch.int64),
        "int": torch.tensor([7, -7], dtype=torch.int32),
        "bytes": torch.tensor([0, 128, 255], dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "näme \" \\ /": torch.tensor([3.25]),
    }
    save_file(tensors, "tests/golden/python.safetensors", metadata={"format": "pt", "quote": "a \"b\"\n\\ ü"})
    with safe_open("tests/golden/ours.safetensors", "pt") as f:
        assert f.metadata() == {"format": "cxnet", "note": "line\nwith \"quotes\" and ü"}, f.metadata()
        want = {
            "a.weight": torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.25]]),
            "b": torch.tensor([1, 2, 3], dtype=torch.uint8),
            "c": torch.tensor([-5, 6], dtype=torch.int64),
            "nothing": torch.zeros((3, 0, 2)),
            "one": torch.tensor(7.5),
        }
        assert set(f.keys()) == set(want), f.keys()
        for name, t in want.items():
            assert f.get_tensor(name).dtype == t.dtype and torch.equal(f.get_tensor(name), t), name
    print("python.safetensors written, ours.safetensors read:", len(tensors), "and", len(want), "tensors")
