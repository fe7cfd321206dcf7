"""Philox4x32-10 and the name hash of include/cxnet/base.h in numpy, so that both worlds draw equal numbers without exchanging files."""
import numpy as np

MASK = np.uint64(0xFFFFFFFF)


def fnv1a(text):
    """cx_hash: FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def words(seed, stream, counters):
    """uint32 array (len(counters), 4)."""
    counters = np.asarray(counters, np.uint64)
    shift = np.uint64(32)
    c0, c1 = counters & MASK, counters >> shift
    c2 = np.full_like(c0, stream & 0xFFFFFFFF)
    c3 = np.full_like(c0, stream >> 32)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> shift) ^ c1 ^ np.uint64(k0), b & MASK, (a >> shift) ^ c3 ^ np.uint64(k1), a & MASK
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], 1).astype(np.uint32)


def uniform(seed, stream, n, first_counter=0):
    """n draws of cx_rng_uniform, as float64 in [0, 1)."""
    w = words(seed, stream, np.arange(first_counter, first_counter + (n + 3) // 4, dtype=np.uint64))
    return (w.reshape(-1)[:n] >> np.uint32(8)).astype(np.float64) * 2.0**-24
