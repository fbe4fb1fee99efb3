"""Prints the number and the SHA-256 of each block of a snapshot that holds something."""

import hashlib
import sys

import boto3

ebs = boto3.client("ebs")
snapshot, start = sys.argv[1], {}
while True:
    page = ebs.list_snapshot_blocks(SnapshotId=snapshot, **start)
    for block in page["Blocks"]:
        index = block["BlockIndex"]
        found = ebs.get_snapshot_block(
            SnapshotId=snapshot, BlockIndex=index, BlockToken=block["BlockToken"]
        )
        data = found["BlockData"].read()
        if any(data):
            print(index, hashlib.sha256(data).hexdigest())
    if not page.get("NextToken"):
        break
    start = {"NextToken": page["NextToken"]}
