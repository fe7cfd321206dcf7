#!/usr/bin/env python3
"""Writes tests/golden/zip: small archives by Python's zipfile, which the reader of zip files must read, and which seed its fuzz target.

    tools/oracle/zips.py [FOLDER]
"""
import os
import sys
import zipfile

FILES = {"a/b.txt": b"the quick brown fox jumps over the lazy dog\n" * 8, "empty": b"", "gr\u00f6\u00dfe.bin": bytes(range(256))}
WHEN = (2020, 1, 1, 0, 0, 0)


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for name, method, force in (("stored", zipfile.ZIP_STORED, False), ("deflated", zipfile.ZIP_DEFLATED, False), ("zip64", zipfile.ZIP_DEFLATED, True)):
        with zipfile.ZipFile(os.path.join(folder, name + ".zip"), "w", method) as z:
            z.comment = b"a comment" if force else b""
            for member, data in FILES.items():
                info = zipfile.ZipInfo(member, WHEN)
                info.compress_type = method
                with z.open(info, "w", force_zip64=force) as f:
                    f.write(data)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/zip")
