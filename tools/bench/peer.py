#!/usr/bin/env python3
"""One run of one peer in a process of its own, for peers.py: makes the network, takes a few steps, prints one JSON object. Or many runs, for gpu.py.

    peer.py PEER WHAT MODEL PRECISION SIDE BATCH THREADS STEPS [FILE [HINT]]
    peer.py export MODEL SIDE BATCH FILE
    peer.py many PEER DEVICE                 answers each line "WHAT MODEL PRECISION SIDE BATCH STEPS" by a line with an object, until there are no more

PEER is eager (NCHW), eager_cl (channels_last), compile (torch.compile, channels_last), openvino or onnxruntime. The networks are those that cxnet has
under the same names: torchvision's DenseNet with one logit, and the lung U-Net (1 channel, widths 32 to 512). Training is forward, loss (binary
cross-entropy; Dice for the U-Net), backward, Adam; inference is the evaluation network. "start" is training that stops after its first step.
On a GPU a step of training copies its films and labels from pinned memory, convolutions are chosen by trial (cudnn.benchmark), and a time ends when the GPU
is done.
OpenVINO and ONNX Runtime read the FILE that "export" wrote, so PyTorch's threads and memory are not in their process. HINT is OpenVINO's performance
hint: latency (default) or throughput.
"""
import contextlib
import json
import os
import resource
import statistics
import sys
import time

WARM_UP = 2


def since_process_start():
    """Seconds, by the kernel's own note of when this process began: the interpreter and its imports count."""
    with open("/proc/self/stat", encoding="ascii") as f:
        ticks = int(f.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def channels(model):
    return 1 if model == "unet" else 3


def unet(torch, base=32, levels=5):
    nn = torch.nn

    def double(inside, outside):
        return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(outside, outside, 3, padding=1), nn.ReLU(inplace=True))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [base << i for i in range(levels)]
            self.down = nn.ModuleList(double(a, b) for a, b in zip([1] + widths, widths))
            self.pool = nn.MaxPool2d(2)
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
            self.join = nn.ModuleList(double(2 * w, w) for w in reversed(widths[:-1]))
            self.last = nn.Conv2d(base, 1, 1)

        def forward(self, x):
            skips = []
            for i, block in enumerate(self.down):
                x = block(self.pool(x) if i else x)
                skips.append(x)
            skips.pop()
            for up, join in zip(self.up, self.join):
                x = join(torch.cat([up(x), skips.pop()], 1))
            return torch.sigmoid(self.last(x))
    return UNet()


def dice(p, t, smooth=1.0):
    return 1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth)


def build(torch, model):
    """(network, loss)"""
    torch.manual_seed(0)
    if model == "unet":
        return unet(torch), dice
    import torchvision
    return getattr(torchvision.models, model)(weights=None, num_classes=1), torch.nn.functional.binary_cross_entropy_with_logits


def torch_step(peer, what, model, precision, side, batch, threads, device="cpu"):
    import torch
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    gpu = device != "cpu"
    net, loss = build(torch, model)
    x = torch.rand(batch, channels(model), side, side)
    t = torch.randint(0, 2, (batch, 1, side, side) if model == "unet" else (batch, 1)).float()
    if peer != "eager":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if gpu:
        host = [v.pin_memory() for v in (x, t)]
        net, x, t = net.to(device), x.to(device), t.to(device)
    train = what != "infer"
    net.train(train)
    run = torch.compile(net) if peer == "compile" else net
    adam = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True) if train else None

    def cast():
        return torch.autocast("cuda" if gpu else "cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()

    def infer():
        with torch.inference_mode(), cast():
            run(x)
        if gpu:
            torch.cuda.synchronize()

    def learn():
        if gpu:
            x.copy_(host[0], non_blocking=True)
            t.copy_(host[1], non_blocking=True)
        adam.zero_grad(set_to_none=True)
        with cast():
            y = run(x)
        loss(y.float(), t).backward()
        adam.step()
        if gpu:
            torch.cuda.synchronize()
    return (learn if train else infer), 1, f"torch {torch.__version__}"


def random_films(model, side, batch):
    import numpy
    return numpy.random.default_rng(0).random((batch, channels(model), side, side), dtype=numpy.float32)


def openvino_step(model, precision, side, batch, threads, path, hint):
    import openvino
    settings = {"PERFORMANCE_HINT": hint.upper(), "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    films, version = random_films(model, side, batch), f"openvino {openvino.__version__.split('-')[0]} {hint}"
    if hint == "latency":
        request = compiled.create_infer_request()
        return (lambda: request.infer([films], share_inputs=True)), 1, version
    queue = openvino.AsyncInferQueue(compiled)

    def batches():
        for _ in range(len(queue)):
            queue.start_async([films], share_inputs=True)
        queue.wait_all()
    return batches, len(queue), version


def onnxruntime_step(model, side, batch, threads, path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    films = random_films(model, side, batch)
    return (lambda: session.run(None, {"x": films})), 1, f"onnxruntime {onnxruntime.__version__}"


def export(model, side, batch, path):
    import torch
    net, _ = build(torch, model)
    with contextlib.redirect_stdout(sys.stderr):
        torch.onnx.export(net.eval(), (torch.rand(batch, channels(model), side, side),), path + ".new", input_names=["x"], dynamo=True, external_data=False)
    os.replace(path + ".new", path)
    print("{}")


def measure(step, batches, batch, steps):
    times = []
    for i in range(1 - WARM_UP, steps):
        t0 = time.perf_counter()
        step()
        if i >= 0:
            times.append(time.perf_counter() - t0)
    return batch * batches / statistics.median(times)


def many(peer, device):
    """For each line: films/s and the most memory that was taken on the GPU, or an error."""
    import torch
    for line in sys.stdin:
        what, model, precision, side, batch, steps = line.split()
        out, step = {}, None
        try:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            step, batches, _ = torch_step(peer, what, model, precision, int(side), int(batch), os.cpu_count(), device)
            step()
            out |= {"films_per_s": measure(step, batches, int(batch), int(steps)), "peak_bytes": torch.cuda.max_memory_reserved()}
        except RuntimeError as e:                       # out of memory is one of these
            out["error"] = str(e).strip().split("\n")[0][:300]
        print(json.dumps(out), flush=True)
        del step


def main():
    if sys.argv[1] == "many":
        return many(sys.argv[2], sys.argv[3])
    if sys.argv[1] == "export":
        return export(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    peer, what, model, precision = sys.argv[1:5]
    side, batch, threads, steps = map(int, sys.argv[5:9])
    path, hint = (sys.argv[9:] + [None, "latency"][len(sys.argv[9:]):])[:2]
    if peer == "openvino":
        step, batches, version = openvino_step(model, precision, side, batch, threads, path, hint)
    elif peer == "onnxruntime":
        step, batches, version = onnxruntime_step(model, side, batch, threads, path)
    else:
        step, batches, version = torch_step(peer, what, model, precision, side, batch, threads)
    step()
    out = {"version": version, "start_s": since_process_start()}
    if what != "start":
        out["films_per_s"] = measure(step, batches, batch, steps)
    out["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(out))


if __name__ == "__main__":
    main()
