#!/usr/bin/env python3
"""Reads a log of meterd, written from src/wal/FORMAT.md alone: an entry a line, as JSON.

    read_log.py STATE_DIR/wal
    read_log.py STATE_DIR/archive

A line is {"segment", "seq", "kind", "payload" (hex)}, or {"segment", "bad": offset} where no valid frame stands before
the known end of a segment (or, in the newest, before a byte that is not zero). Changes nothing.
"""
import json
import pathlib
import struct
import sys
import zlib

HEADER = struct.Struct("<8sIIQQQ16sqQQII")
FRAME = struct.Struct("<IHBBQI")
FRAMES_AT = 4096
WHOLE, FIRST, MIDDLE, LAST = range(4)


def header(data):
    for at in (0, 2048):
        copy = data[at : at + HEADER.size]
        if len(copy) < HEADER.size:
            continue
        names = "magic version flags id first_seq salt log created_ms bytes previous_end previous_crc crc"
        fields = dict(zip(names.split(), HEADER.unpack(copy)))
        ours = fields["magic"] in (b"meterdWL", b"meterdAR")
        if ours and fields["version"] != 1:
            sys.exit(f"format version {fields['version']} is not 1")
        if ours and zlib.crc32(copy[:-4]) == fields["crc"]:
            return fields
    sys.exit("neither copy of a segment's header is valid")


def frame(data, at, seed, seq):
    """The frame at an offset, or None unless every condition of validity holds."""
    if at + FRAME.size > len(data):
        return None
    crc, length, kind, part, number, lag = FRAME.unpack_from(data, at)
    end = at + FRAME.size + length
    padded = (end + 7) // 8 * 8
    if not 1 <= length <= 8168 or part > LAST or number != seq or padded > len(data) or any(data[end:padded]):
        return None
    if zlib.crc32(data[at + 4 : end], zlib.crc32(struct.pack("<Q", at), seed)) != crc:
        return None
    return kind, part, data[at + FRAME.size : end], padded


def main(directory):
    paths = sorted(pathlib.Path(directory).glob("*.seg"))
    segments = [(path, path.read_bytes()) for path in paths]
    headers = [header(data) for _, data in segments]
    parts, first = [], None
    for i, (_, data) in enumerate(segments):
        head = headers[i]
        newest = i + 1 == len(segments)
        if head["magic"] == b"meterdAR":
            end = head["bytes"]  # an archive file stands alone and has no byte behind its last frame
        else:
            end = len(data.rstrip(b"\0")) if newest else headers[i + 1]["previous_end"]
        seed = zlib.crc32(struct.pack("<QQ", head["salt"], head["id"]))
        at, seq = FRAMES_AT, head["first_seq"]
        while at < end:
            found = frame(data, at, seed, seq)
            if found is None:
                print(json.dumps({"segment": head["id"], "bad": at}))
                break
            kind, part, payload, at = found
            if part in (WHOLE, FIRST):
                parts, first = [], seq
            if part == LAST:
                count, digest = struct.unpack("<II", payload[-8:])
                parts.append(payload[:-8])
                whole = b"".join(parts)
                if count == len(parts) and digest == zlib.crc32(whole):
                    print(json.dumps({"segment": head["id"], "seq": first, "kind": kind, "payload": whole.hex()}))
                parts = []
            elif part == WHOLE:
                print(json.dumps({"segment": head["id"], "seq": seq, "kind": kind, "payload": payload.hex()}))
            else:
                parts.append(payload)
            seq += 1


if __name__ == "__main__":
    main(sys.argv[1])
